"""Engines that keep events and order them, behind the interface of `_core/backplane`.

One module for each engine. They know no session, no socket, and no other engine.
"""

from chansock.backplanes.memory import Memory

__all__ = ["Memory"]
