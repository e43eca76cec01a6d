"""Our Python client against recorded Sente servers: it is taken by each of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from client_replay import LEFT_OUT, MAY_DIFFER, ClientReplay, VirtualLoop, play
from recorded_servers import PACKERS, scenario
from recording import NAMES, packer
from same import Mismatch
from sente_script import run_in_virtual_time

PLAYED = [name for name in NAMES if packer(name) in PACKERS and name not in LEFT_OUT]
SLOW = {"idle", "idle-defaults", "idle-latency", "long-outage", "outage", "no-reply"}

# Which of Sente's liberties were seen, by the rows of MAY_DIFFER.
NOTED = {
    # What we write is no sign of the server's life for us; Sente counts it as one.
    "chromium-idle-latency": ["a ping more"],
    "chromium-idle-defaults": ["a ping less", "a ping more"],
    "jvm-idle-latency": ["a ping more", "a ping less"],
    "jvm-ws-no-reply": ["a ping less", "a ping more"],
    "node-idle-defaults": ["a ping less"],
    "node-idle-latency": ["a ping more"],
    "node-ws-outage": ["a ping less"],
    "node-ajax-fin": ["early"],
}


def replay(name: str, change: Callable[[Any], None] | None = None) -> list[str]:
    async def main() -> list[str]:
        played = ClientReplay(name, patience=5.0 if change is None else 0.3)
        if change is not None:
            change(played.records)
        return await play(played)

    noted: list[str] = run_in_virtual_time(main(), VirtualLoop)
    return noted


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow)
        if scenario(name) in SLOW or "-values-" in name or "-big-" in name
        else name
        for name in PLAYED
    ],
)
def test_recorded_server_takes_what_our_client_sends(name: str) -> None:
    assert replay(name) == NOTED.get(name, [])


def of(kind: str, at: int = 0, **fields: Any) -> Callable[[Any], dict[str, Any]]:
    """Return what finds the at-th record of a kind with these fields."""

    def find(records: Any) -> dict[str, Any]:
        found = [r for r in records if r["kind"] == kind and fields.items() <= r.items()]
        record: dict[str, Any] = found[at]
        return record

    return find


def setting(find: Callable[[Any], dict[str, Any]], **fields: Any) -> Callable[[Any], None]:
    return lambda records: find(records).update(fields)


def with_header(find: Callable[[Any], dict[str, Any]], name: str, value: str) -> Any:
    def change(records: Any) -> None:
        record = find(records)
        others = [pair for pair in record["headers"] if pair[0].lower() != name]
        record["headers"] = [*others, [name, value]]

    return change


def without(find: Callable[[Any], dict[str, Any]]) -> Callable[[Any], None]:
    return lambda records: records.remove(find(records))


def retargeted(find: Callable[[Any], dict[str, Any]], old: str, new: str) -> Any:
    def change(records: Any) -> None:
        record = find(records)
        assert old in record["target"]
        record["target"] = record["target"].replace(old, new)

    return change


BYE = of("ws-frame", dir="c>s", opcode=8)
POLL = of("http-request", 1, method="GET")
POST = of("http-request", method="POST")
PONG = of("ws-frame", dir="c>s", text="[[:chsk/ws-pong] nil]")

# What the recorded server expects is made different; the replay must say that ours is not so.
TAMPERED = {
    "another close code": ("node-ws-edn", setting(BYE, code=1001)),
    "another close reason": ("node-ws-edn", setting(BYE, close_reason="bye")),
    "another version": (
        "node-ws-edn",
        with_header(of("http-request"), "sec-websocket-version", "14"),
    ),
    "a sub-protocol": (
        "node-ws-edn",
        with_header(of("http-request"), "sec-websocket-protocol", "x"),
    ),
    "another header": ("node-ajax-edn", with_header(POLL, "x-requested-with", "XMLHttpRequest")),
    "another token": ("node-ajax-csrf", with_header(POST, "x-csrf-token", "other")),
    "a body of another type": ("node-ajax-edn", with_header(POST, "content-type", "text/plain")),
    "another handshake": (
        "node-ajax-edn",
        retargeted(of("http-request"), "handshake%3F=1", "handshake%3F=true"),
    ),
    "a poll that is a handshake": (
        "node-ajax-edn",
        retargeted(POLL, "udt", "handshake%3F=1&udt"),
    ),
    "another param": ("node-ajax-params", retargeted(POLL, "uid=", "id=")),
    "a poll less": ("node-ajax-edn", without(of("http-request", -1, method="GET"))),
    "a pong less": ("node-server-ping", without(PONG)),
    "a pong for nothing": (
        "node-server-ping",
        without(of("ws-frame", dir="s>c", opcode=1, len=19)),
    ),
    "an attempt too soon": (
        "node-ws-outage",
        setting(of("http-request", 1), t=17.0),
    ),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_replay_tells_that_ours_is_not_so(case: str) -> None:
    name, change = TAMPERED[case]
    with pytest.raises(Mismatch, match=name):
        replay(name, change)


def test_what_is_left_out_and_what_may_differ_is_what_was_agreed() -> None:
    assert set(LEFT_OUT) <= set(NAMES)
    assert set(NOTED) <= set(PLAYED)
    assert list(MAY_DIFFER) == [
        "n",
        "why",
        "pos, acked, sent, try",
        "params with POSTs",
        "x-csrf-token: null",
        "extensions",
        "which connection",
        "which tick pings",
        "a refused client",
        "a connection that ended",
        "after a break",
    ]
