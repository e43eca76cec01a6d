"""The Lua scripts beside this file, as the engine loads them. What they do is said in each.

A line `--@ presence` is replaced by presence.lua, and `--@ reading` by reading.lua.
"""

from __future__ import annotations

import hashlib
from importlib.resources import files
from typing import Final

__all__ = ["SCRIPTS", "TEXTS"]

_NAMES: Final = (
    "beat",
    "check",
    "claim",
    "home",
    "join",
    "leave",
    "members",
    "opened",
    "read",
    "refresh",
    "release",
    "roster",
    "settle",
    "turn",
)


def _load(name: str) -> bytes:
    folder = files("chansock.backplanes.redis")
    text = (folder / f"{name}.lua").read_bytes()
    for shared in ("presence", "reading"):
        text = text.replace(b"--@ %s\n" % shared.encode(), (folder / f"{shared}.lua").read_bytes())
    return text


TEXTS: Final[dict[str, bytes]] = {name: _load(name) for name in _NAMES}
# The name by which EVALSHA calls each script.
SCRIPTS: Final[dict[str, str]] = {
    name: hashlib.sha1(text, usedforsecurity=False).hexdigest() for name, text in TEXTS.items()
}
