"""The MessagePack packer: envelopes, batches, and a channel that speaks it over both transports."""

from __future__ import annotations

import asyncio
import pickle
from array import array
from collections.abc import Callable, Coroutine
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any
from uuid import UUID

import pytest
import websockets

import chansock
from chansock._fast.events.msgpack_packet import MessagePackPacker
from chansock._fast.events.packet import adapt
from chansock.errors import EncodeError, PacketError
from chansock.packers import MessagePack
from chansock.values import Char, Keyword, StrDict, Symbol

Run = Callable[[Coroutine[Any, Any, Any]], Any]
PACKER = MessagePack()
AB = "c70300612f62"  # :a/b


def test_what_a_server_writes() -> None:
    first = PACKER.fragment(("a/b", {"a": 1}))
    second = PACKER.fragment((Keyword("a/b"),))
    assert first.hex() == "92" + AB + "81d4006101"
    assert second.hex() == "91" + AB
    assert PACKER.batch([first, second]).hex() == "9292" + first.hex() + second.hex() + "c0"
    assert PACKER.batch([second]).hex() == "9291" + second.hex() + "c0"
    assert PACKER.batch([]).hex() == "9290c0"
    assert PACKER.batch([second] * 16).hex() == "92dc0010" + second.hex() * 16 + "c0"
    assert PACKER.batch([second] * 65536).hex() == "92dd00010000" + second.hex() * 65536 + "c0"
    assert PACKER.packet(Keyword("chsk/ws-ping"), None).hex() == (
        "92c70c00" + b"chsk/ws-ping".hex() + "c0"
    )
    assert PACKER.packet("pong", "abc123").hex() == "92a4706f6e67a6616263313233"
    assert PACKER.fragment(("a/b", False)).hex() == "92" + AB + "c2"
    assert PACKER.fragment(("a/b", None)).hex() == "92" + AB + "c0"


@pytest.mark.parametrize(
    ("hexed", "packet"),
    [
        (f"9292{AB}01a6326334343631", ([Keyword("a/b"), 1], "2c4461")),
        (f"9292{AB}01c0", ([Keyword("a/b"), 1], None)),
        (f"9192{AB}01", ([Keyword("a/b"), 1], None)),
        (f"9292{AB}01d600616a6178", ([Keyword("a/b"), 1], Keyword("ajax"))),
        (f"9291{AB}00", ([Keyword("a/b")], 0)),
        (f"9291{AB}c3", ([Keyword("a/b")], True)),
        (f"9291{AB}c2", ([Keyword("a/b")], None)),
        (f"9293{AB}0102c0", ([Keyword("a/b"), 1, 2], None)),
        (f"92dc0002{AB}01c0", ([Keyword("a/b"), 1], None)),
        (f"dc000292{AB}01c0", ([Keyword("a/b"), 1], None)),
        (f"dd0000000292{AB}01c0", ([Keyword("a/b"), 1], None)),
        (f"92{AB}c0", (Keyword("a/b"), None)),
        ("929201c0c0", ([1, None], None)),
        ("9290c0", ([], None)),
        ("9401020304", (1, 2)),
        (f"9492{AB}0102a16104", ([Keyword("a/b"), 1], 2)),
        (f"9292{AB}01c0" + "00" * 1000, ([Keyword("a/b"), 1], None)),
        (f"9292{AB}01c0" + "c1ff", ([Keyword("a/b"), 1], None)),
        ("92c0c0", (None, None)),
        ("90", (None, None)),
        ("c0", (None, None)),
        ("9181d4006101", ({"a": 1}, None)),
    ],
)
def test_envelopes_are_destructured_as_sente_does(hexed: str, packet: tuple[Any, Any]) -> None:
    found = PACKER.unpack(bytes.fromhex(hexed))
    assert found == packet
    assert [type(part) for part in found] == [type(part) for part in packet]


@pytest.mark.parametrize(
    "hexed",
    ["", "00", "c3", "80", "81d4006101", "a3616263", "d40061", "d40490", "92", "9201", "c1",
     "94010203", "9201c1", "93010a", f"9292{AB}", f"9292{AB}01", "cb3ff8", "00" * 1024],
)  # fmt: skip
def test_anything_else_is_a_packet_error_of_one_line(hexed: str) -> None:
    with pytest.raises(PacketError, match=r"\Aexpected .*, got .* at byte \d+\Z"):
        PACKER.unpack(bytes.fromhex(hexed))


def test_what_is_behind_the_second_element_is_read_to_its_end() -> None:
    with pytest.raises(PacketError, match="got 0xff at byte 4"):
        PACKER.unpack(bytes.fromhex("930102a1ff"))


def test_a_packer_is_the_engines_own_and_binary() -> None:
    assert adapt(PACKER) is PACKER
    assert type(PACKER) is MessagePackPacker
    assert PACKER.binary


def test_it_is_shown_and_pickled_by_its_options() -> None:
    packer = MessagePack("string", default=str)
    again = pickle.loads(pickle.dumps(packer))
    assert repr(packer) == repr(again) == "MessagePack(keys='string', default=<class 'str'>)"
    assert repr(MessagePack()) == "MessagePack(keys='keyword')"
    assert again.packet({"a b": 1j}, None) == packer.packet({"a b": "1j"}, None)
    assert again.keys == "string"


def test_a_fragment_without_a_keywords_name_is_refused() -> None:
    for name in (None, 5, b"a/b", ("a", "b"), "a b"):
        with pytest.raises(EncodeError, match="expected a keyword's name, got"):
            PACKER.fragment((name, 1))  # type: ignore[arg-type]


# -- over a channel --

VALUES: list[Any] = [
    None,
    {"text": "hi", "kind": Keyword("join"), "n": [1, -2.5, {"text": "é 漢字 😀"}]},
    StrDict({"bob smith": 4, Keyword("total"): {1, 2}}),
    [Symbol("ns/sym"), Char("x"), Fraction(1, 3), UUID(int=7), b"\x00\xff"],
    datetime(2020, 1, 2, 3, 4, 5, 678901, UTC),
    [array("i", [1, -1]), array("d", [0.1])],
    [{"id": n, "name": f"row {n}", "tags": {"id": -n}} for n in range(400)],
    "x" * 70_000,
]


@pytest.mark.parametrize("transport", ["ws", "ajax"])
def test_values_come_back_unchanged_over_a_channel(run: Run, transport: str) -> None:
    async def main() -> None:
        chsk = chansock.ChannelSocket(packer=MessagePack(), user_id=lambda request: "ada")

        @chsk.on("test/reply")
        def reply(msg: Any) -> Any:
            return msg.data

        @chsk.on("test/push")
        def push(msg: Any) -> None:
            for value in VALUES:
                chsk.send("ada", "test/pushed", value)

        pushed: asyncio.Queue[Any] = asyncio.Queue()
        async with (
            chansock.serve(chsk, port=0) as listener,
            chansock.connect(listener.url, transport=transport, packer=MessagePack()) as client,
        ):
            client.on("test/pushed", lambda event: pushed.put_nowait(event.data))
            for value in VALUES:
                found = await client.send("test/reply", value, timeout=60)
                assert found == value
                assert type(found) is type(value)
            await client.send("test/push")
            assert [await pushed.get() for _ in VALUES] == VALUES
            assert client.state.type == transport
        assert chsk.stats.bad_packet == chsk.stats.bad_event == 0

    run(main())


def test_text_and_other_packers_bytes_are_counted_and_the_socket_stays(run: Run) -> None:
    async def main() -> None:
        chsk = chansock.ChannelSocket(packer=MessagePack())
        chsk.on("test/reply", lambda msg: msg.data)
        async with (
            chansock.serve(chsk, port=0) as listener,
            chansock.connect(listener.url, transport="ws", packer=MessagePack()) as client,
        ):
            url = f"ws://127.0.0.1:{listener.port}/chsk?client-id=raw"
            async with websockets.connect(url) as raw:
                assert (await raw.recv())[:4] == b"\x92\x92\xc7\x0e"
                for bad in ("[[:test/reply 1] nil]", b"\xc1", b"\x92\x92", b"[[:a/b] nil]"):
                    await raw.send(bad)
                await raw.send(bytes.fromhex("9292" + "c70a00") + b"test/reply" + b"\x05\xa11")
                assert await raw.recv() == b"\x92\x05\xa11"
            assert await client.send("test/reply", 7, timeout=60) == 7
        assert chsk.stats.bad_packet == 4

    run(main())
