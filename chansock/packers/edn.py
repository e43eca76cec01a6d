"""The edn packer, Sente's default: `EDN(keys="keyword", tagged=False, default=None)`.

`keys="string"` reads and writes the plain str keys of maps as strings. `tagged=True` lets
elements whose tag nobody knows travel as Tagged: both ends must say so, Sente's refuse
them. `default` is a function that gives values of other types a form, as in `edn.dumps`.
The class itself lives in the engine.
"""

from __future__ import annotations

from chansock._fast.events.packet import EdnPacker as EDN

__all__ = ["EDN"]
