"""Recorded Sente clients against a chansock server on a real port."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
import sente_app
from recorded_servers import channel, reader, scenario
from recording import FOLDER, NAMES, load
from recording_order import order_of_send
from replay import LOST_IN_A_DROPPED_POLL, MAY_DIFFER, Replay
from same import Mismatch
from timed_replay import SocketLoop, TimedReplay

import chansock
from chansock._fast.io.epoll import IS_AVAILABLE

Run = Callable[[Coroutine[Any, Any, Any]], Any]


SLOW = pytest.mark.slow  # each poll waits for flush_delay_ajax, as Sente's did

SCENARIOS = {
    "edn": "a session: an echo, a request, three pushes, a broadcast",
    "values-edn": "values of all kinds, there and back",
    "big-edn": "messages of 2,000, 70,000 and 1,000,000 characters",
    "params": "the user by a parameter of the URL",
    "headers": "the user by a header",
    "handshake-data": "data in the handshake",
    "csrf": "a token that is right",
    "csrf-bad": "a token that is wrong",
    "csrf-none": "no token",
    "close-me": "the application closes the user",
    "reconnect": "the client closes, comes back, breaks off",
    "same-id": "two clients of one client-id",
    "two-tabs": "two clients of one user",
    "fallback-403": "what follows after a middlebox refused the WebSocket, whose own answer is "
    "left out: no server can act it",
    "fallback-close": "the same after a middlebox closed the connection",
}
# Played at their own times, in virtual time: time-outs and pings are the point.
TIMED = {
    "idle": "polls that time out",
    "idle-defaults": "both sides' pings",
    "idle-latency": "the same for two minutes",
    "server-ping": "the server's ping alone",
    "kalive-4s": "the server's ping by a setting",
    "no-reply": "requests that nobody answers",
    "outage": "the network goes down and comes back: what the server's side sees of it",
    "long-outage": "the same for 100 s",
    "fin": "every connection ends, by a middlebox that says so to both sides",
    "stall": "the network holds everything back for 37 s",
}
# Those of edn are played on each loop; the others test a packer, and in virtual time the
# 0.1 s that each poll waits for more are not slept for.
PACKED = {
    "values-gzip-edn": "edn in a gzip wrapper",
    "big-gzip-edn": "messages that gzip makes small",
    "values-gzip-msgpack": "MessagePack in a gzip wrapper",
    "values-msgpack": "MessagePack; over Ajax with zeros behind it",
    "big-msgpack": "messages whose zeros are as many as their bytes",
    "values-transit": "transit with its codes",
    "values-transit-verbose": "transit without them",
}

UNTIMED_NAMES = [name for name in NAMES if scenario(name) in SCENARIOS]
PACKED_NAMES = [name for name in NAMES if scenario(name) in PACKED]
TIMED_NAMES = [name for name in NAMES if scenario(name) in TIMED]


def test_every_recording_in_the_folder_is_replayed() -> None:
    assert {path.name for path in FOLDER.iterdir()} == {
        "README.md",
        *(f"{name}.jsonl" for name in NAMES),
    }
    assert {scenario(name) for name in NAMES} == {*SCENARIOS, *TIMED, *PACKED}
    assert sorted([*UNTIMED_NAMES, *TIMED_NAMES, *PACKED_NAMES]) == NAMES
    assert len(NAMES) == 127


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=SLOW)
        if "ajax" in name or "fallback" in name or "big" in name
        else name
        for name in UNTIMED_NAMES
    ],
)
def test_recorded_client_gets_what_sente_gave_it(name: str, run: Run) -> None:
    run(play(name))


@pytest.mark.parametrize("uses_epoll", [False, IS_AVAILABLE])
@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=SLOW) if "ajax" in name else name for name in PACKED_NAMES],
)
def test_recorded_client_of_another_packer_gets_what_sente_gave_it(
    name: str, uses_epoll: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chansock.server.USES_EPOLL", uses_epoll)
    run_in_virtual_time(play(name))


async def play(name: str) -> None:
    chsk = channel(name)
    async with chansock.serve(chsk, port=0) as listener:
        await Replay(name, listener.port).play()
    assert chsk.stats.bad_packet == chsk.stats.bad_event == 0


def run_in_virtual_time(coro: Coroutine[Any, Any, None]) -> None:
    loop = SocketLoop()
    try:
        loop.run(coro)
    finally:
        loop.close()


def play_timed(name: str, **settings: Any) -> None:
    async def main() -> None:
        chsk = channel(name, **settings)
        async with chansock.serve(chsk, port=0) as listener:
            replay = TimedReplay(
                name,
                listener.port,
                chsk.config.ws_ping_interval,
                is_stalled=scenario(name) == "stall",
            )
            await replay.play()

    run_in_virtual_time(main())


@pytest.mark.parametrize("uses_epoll", [False, IS_AVAILABLE])
@pytest.mark.parametrize("name", TIMED_NAMES)
def test_recorded_client_gets_it_when_sente_gave_it(
    name: str, uses_epoll: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chansock.server.USES_EPOLL", uses_epoll)
    play_timed(name)


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("jvm-server-ping", {"ws_ping_interval": 25.0}),
        ("node-ajax-idle", {"poll_timeout": 10.0}),
        ("node-ajax-idle", {"poll_timeout": 30.0}),
        ("jvm-ws-kalive-4s", {"ws_ping_interval": 1.0}),
        ("jvm-ws-stall", {"ws_ping_timeout": None}),
    ],
)
def test_timed_replay_tells_another_time(name: str, settings: dict[str, Any]) -> None:
    with pytest.raises(Mismatch, match=name):
        play_timed(name, **settings)


# One record of a recording is made different; the replay must say so at that line.
TAMPERED = {
    "another value": ("jvm-ws-edn", "{:x [1 2 3]}", "{:x [1 2 4]}"),
    "a float for an int": ("jvm-ws-edn", "{:x [1 2 3]}", "{:x [1.0 2 3]}"),
    "a string for a keyword": ("jvm-ws-edn", "{:to :all}", '{:to "all"}'),
    "a list for a vector": ("jvm-ws-edn", "{:x [1 2 3]}", "{:x (1 2 3)}"),
    "another callback id": ("jvm-ws-edn", "344648", "344649"),
    "one push more": ("jvm-ws-edn", "[:test/pushed {:i 2}]", "[:test/pushed {:i 2}] [:a/b 3]"),
    "one push less": ("jvm-ws-edn", " [:test/pushed {:i 2}]", ""),
    "two pushes swapped": (
        "jvm-ws-edn",
        "[:test/pushed {:i 0}] [:test/pushed {:i 1}]",
        "[:test/pushed {:i 1}] [:test/pushed {:i 0}]",
    ),
    "another user": ("node-ajax-edn", '"alice-node-ajax"', '"bob"'),
    "another answer of a POST": ("node-ajax-edn", "[:chsk/dummy-cb-200 nil]", "[:chsk/x nil]"),
    "a push by a poll less": ("node-ajax-edn", " [:test/pushed {:i 2}]", ""),
}


@SLOW
@pytest.mark.parametrize("case", TAMPERED)
def test_replay_tells_a_difference(case: str, run: Run) -> None:
    name, old, new = TAMPERED[case]

    async def main() -> None:
        async with chansock.serve(sente_app.make(), port=0) as listener:
            replay = Replay(name, listener.port, patience=0.3)
            replay.records = [
                record if record.client else replace(record, text=record.text.replace(old, new))
                for record in replay.records
            ]
            assert replay.records != Replay(name, listener.port).records
            with pytest.raises(Mismatch, match=name):
                await replay.play()

    run(main())


def test_what_may_differ_is_what_was_agreed() -> None:
    assert list(MAY_DIFFER) == [
        "date",
        "server",
        "content-type",
        "added headers",
        "key order",
        "times",
        "batch boundaries",
        "reply among pushes",
        "end of a poll by [:chsk/close]",
        "close code of a silent client",
        "pings",
        "answers to who has left",
        "pushes that Sente lost",
    ]
    assert {name for name, _ in LOST_IN_A_DROPPED_POLL} <= set(NAMES)


# Where Sente's batches overtook one another, as the POSTs and their answers prove: line of a
# batch -> the lines of those that were sent up to it.
OVERTAKEN = {
    "chromium-ajax-values-edn": {288: [347, 288]},
    "chromium-ajax-values-gzip-edn": {270: [302, 270], 333: [339, 335, 333]},
    "chromium-ajax-values-transit": {315: [333, 315]},
}


@pytest.mark.parametrize(
    "name", [*PACKED_NAMES, "chromium-ajax-values-edn", "node-ajax-values-edn"]
)
def test_overtaken_batches_are_awaited_where_they_were_sent(name: str) -> None:
    order = order_of_send(load(name), reader(name))
    assert bool(order.ranks) == ("ajax" in name)
    moved = {line: lines for line, lines in order.batches.items() if len(lines) > 1}
    assert moved == OVERTAKEN.get(name, {})
