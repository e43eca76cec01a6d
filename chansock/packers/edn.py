"""The edn packer, Sente's default: `EDN(keys="keyword", tagged=False)`. It lives in the engine."""

from __future__ import annotations

from chansock._fast.packet import EdnPacker as EDN

__all__ = ["EDN"]
