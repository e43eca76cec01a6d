"""The pytest plugin by the package's name, for `-p chansock.testing.plugin`.

An installed chansock needs it only where PYTEST_DISABLE_PLUGIN_AUTOLOAD is set. The fixtures
stand in `pytest_chansock`, which can be imported without the package. No other module of the
package knows pytest.
"""

from __future__ import annotations

from pytest_chansock import chsk, chsk_connect, chsk_server, chsk_transport, chsk_world

__all__ = ["chsk", "chsk_connect", "chsk_server", "chsk_transport", "chsk_world"]
