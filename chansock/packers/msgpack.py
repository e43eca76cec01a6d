"""The MessagePack packer, Sente's binary one: `MessagePack(keys="keyword", default=None)`.

Both options are those of EDN. The class itself lives in the engine; its docstring says which
values pass unchanged.
"""

from __future__ import annotations

from chansock._fast.events.msgpack_packet import MessagePackPacker as MessagePack

__all__ = ["MessagePack"]
