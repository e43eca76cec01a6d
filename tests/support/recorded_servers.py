"""How the recorded Sente servers were set up, as settings of ours: one row a scenario.

Facts of the recordings alone (the meta records' notes, and Sente's defaults); what our
server does differently on purpose does not stand here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import sente_app
from recording import packer
from same import values

from chansock import ChannelSocket, Config, EventMsg, Request, Response, packers

Read = Callable[[bytes], tuple[Any, Any]]


def user_of_header(request: Request) -> str | None:
    return request.headers.get("x-rig-uid")


TOKEN = {"csrf_token": lambda request: "tok123"}
HOOKS: dict[str, dict[str, Any]] = {
    "params": {"user_id": sente_app.user_of_param},
    "headers": {"user_id": user_of_header},
    "csrf": TOKEN,
    "csrf-bad": TOKEN,
    "csrf-none": TOKEN,
    "handshake-data": {"handshake_data": lambda request: {"motd": "hi"}},
}
SETTINGS: dict[str, dict[str, Any]] = {
    # ws-kalive-ms 4000, which Sente halves, and no ping timeout
    "kalive-4s": {"ws_ping_interval": 2.0, "ws_ping_timeout": None},
}
PACKERS: dict[str, Callable[[], packers.Packer]] = {
    "edn": packers.EDN,
    "gzip-edn": lambda: packers.Gzip(packers.EDN()),
    "gzip-msgpack": lambda: packers.Gzip(packers.MessagePack()),
    "msgpack": packers.MessagePack,
    "transit": packers.Transit,
    "transit-verbose": lambda: packers.Transit(verbose=True),
}


PROBES: dict[str, dict[str, Any]] = {
    "csrf": {"csrf_token": lambda request: "tok123"},
    "csrf-no-reference": {"csrf_token": lambda request: None},
    "edn": {},
    "edn-http": {},
    "handshake-data": HOOKS["handshake-data"],
    "lifetimes": {},
    "origin": {"config": Config(allowed_origins=("http://good.example", "https://also.example"))},
    "reject-fn": {"reject": lambda request: Response(503, "try later")},
    "timeouts": {},
    "unauthorized": {"authorize": lambda request: False},
}


def probed(name: str, told: Callable[[EventMsg[Any]], object]) -> ChannelSocket:
    """Make the channel that a probe was made at; `told` sees what the application gets."""
    return sente_app.make(**{"config": sente_app.RECORDED, "told": told, **PROBES[name]})


def scenario(name: str) -> str:
    """Name what was done, without who did it and by which transport."""
    _, first, *rest = name.split("-", 2)
    return rest[0] if first in ("ws", "ajax", "auto") else "-".join([first, *rest])


def channel(name: str, **settings: Any) -> ChannelSocket:
    """Make the recorded server's application on chansock; `settings` override its own."""
    what = scenario(name)
    config: Config = replace(sente_app.RECORDED, **{**SETTINGS.get(what, {}), **settings})
    return sente_app.make(config, packer=PACKERS[packer(name)](), **HOOKS.get(what, {}))


def reader(name: str) -> Read:
    """Return what reads a packet of the recording, ours as well as Sente's."""
    kind = packer(name)
    if kind == "edn":
        return lambda payload: tuple(values(payload))
    made = PACKERS[kind]()
    return lambda payload: made.unpack(memoryview(payload))
