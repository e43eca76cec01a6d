"""Packets, their frames, and the packers: bytes literally."""

from __future__ import annotations

import enum
import pickle
import struct
from typing import Any

import pytest

from chansock._fast.events.packet import EdnPacker, ForeignPacker, Packer, Packet, adapt
from chansock.errors import ConfigError, EncodeError, PacketError
from chansock.packers import EDN
from chansock.values import Keyword, List, StrDict, Tagged

# -- frames --


@pytest.mark.parametrize(
    ("size", "header"),
    [
        (0, b"\x81\x00"),
        (5, b"\x81\x05"),
        (125, b"\x81\x7d"),
        (126, b"\x81\x7e\x00\x7e"),
        (65535, b"\x81\x7e\xff\xff"),
        (65536, b"\x81\x7f" + struct.pack(">Q", 65536)),
        (1 << 20, b"\x81\x7f" + struct.pack(">Q", 1 << 20)),
    ],
)
def test_frame_header_by_rfc_6455_section_5_2(size: int, header: bytes) -> None:
    payload = b"x" * size
    packet = Packet(payload)
    assert packet.frame() == header + payload
    assert packet.frame() is packet.frame()
    assert (packet.size, packet.body()) == (size, payload)
    binary = Packet(payload, True)
    assert binary.frame() == b"\x82" + header[1:] + payload


def test_body_is_the_payload_itself_until_it_is_framed() -> None:
    payload = b"[1 nil]"
    packet = Packet(payload)
    assert packet.body() is payload
    packet.frame()
    assert packet.body() == payload


def test_packet_takes_bytes_alone() -> None:
    with pytest.raises(TypeError):
        Packet(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        Packet("text")  # type: ignore[arg-type]


# -- the edn packer --

PING = b"[:chsk/ws-ping nil]"


def test_what_a_server_writes() -> None:
    packer = EDN()
    first = packer.fragment(("chat/said", {"text": "hi", "n": 1}))
    second = packer.fragment((Keyword("app/tick"),))
    assert first == b'[:chat/said {:text "hi", :n 1}]'
    assert second == b"[:app/tick]"
    assert packer.batch([first, second]) == b'[[[:chat/said {:text "hi", :n 1}] [:app/tick]] nil]'
    assert packer.batch([second]) == b"[[[:app/tick]] nil]"
    assert packer.batch([]) == b"[[] nil]"
    assert packer.packet(Keyword("chsk/ws-ping"), None) == PING
    assert packer.packet({"ok": True}, "2c4461") == b'[{:ok true} "2c4461"]'
    assert packer.packet([Keyword("chsk/handshake"), ["alice", None, None]], None) == (
        b'[[:chsk/handshake ["alice" nil nil]] nil]'
    )
    assert packer.fragment(("a/b", False)) == b"[:a/b false]"
    assert packer.fragment(("a/b", None)) == b"[:a/b nil]"


def test_a_failed_write_leaves_nothing_behind() -> None:
    packer = EDN()
    for value in (object(), ["x" * 500, b""]):
        with pytest.raises(EncodeError):
            packer.packet(value, None)
        with pytest.raises(EncodeError):
            packer.fragment(("a/b", value))
    with pytest.raises(EncodeError):
        packer.fragment(("a b", 1))
    assert packer.packet(1, None) == b"[1 nil]"


def test_a_write_inside_a_write_has_a_buffer_of_its_own() -> None:
    packer = EDN()
    inner: list[bytes] = []

    class Value(enum.Enum):
        X = 1

        @property
        def value(self) -> Any:
            inner.append(packer.packet("inner", None))
            return "outer"

    assert packer.packet(["a", Value.X, "b"], None) == b'[["a" "outer" "b"] nil]'
    assert inner == [b'["inner" nil]']


@pytest.mark.parametrize(
    ("text", "packet"),
    [
        (b'[[:test/req {:x [1]}] "2c4461"]', ([Keyword("test/req"), {"x": [1]}], "2c4461")),
        (b"[[:a/b 1] nil]", ([Keyword("a/b"), 1], None)),
        (b"[[:a/b 1]]", ([Keyword("a/b"), 1], None)),
        (b"([:a/b 1] :ajax)", ([Keyword("a/b"), 1], Keyword("ajax"))),
        (b"[[:a/b] 0]", ([Keyword("a/b")], 0)),
        (b"[[:a/b] true]", ([Keyword("a/b")], True)),
        (b"[[:a/b] false]", ([Keyword("a/b")], None)),
        (b"[(:a/b 1) nil]", (List(("a/b", 1)), None)),
        (b"[:chsk/ws-ping nil]", (Keyword("chsk/ws-ping"), None)),
        (b"[1 2 3 4]", (1, 2)),
        (b"[[:a/b 1] nil] garbage )(", ([Keyword("a/b"), 1], None)),
        (b"[nil nil]", (None, None)),
        (b"[]", (None, None)),
        (b"()", (None, None)),
        (b"nil", (None, None)),
        (b"", (None, None)),
        (b"\xef\xbb\xbf[1 2]", (1, 2)),
    ],
)  # fmt: skip
def test_envelopes_are_destructured_as_sente_does(text: bytes, packet: tuple[Any, Any]) -> None:
    found = EDN().unpack(text)
    assert found == packet
    assert [type(part) for part in found] == [type(part) for part in packet]


@pytest.mark.parametrize(
    "text",
    [b"{:a 1}", b"#{1}", b"42", b":foo", b"not edn )(", b'"abc"', b" ", b";c", b"#_1", b"[1",
     b"+[[:a/b] nil]", b"-[:a/b]", b"[#inst 1 nil]", b"[1 nil\xff]", b"]", b"\xff", b"true",
     b"#foo [1 nil]"],
)  # fmt: skip
def test_anything_else_is_a_packet_error_of_one_line(text: bytes) -> None:
    with pytest.raises(PacketError, match=r"\Aexpected .*, got .*\Z") as caught:
        EDN().unpack(text)
    assert "\n" not in str(caught.value)


def test_a_large_bad_packet_is_cut_in_the_message() -> None:
    with pytest.raises(PacketError) as caught:
        EDN().unpack(b"{:a " + b"[" * 400 + b'"' + b"x" * 100_000 + b'"' + b"]" * 400 + b"}")
    assert len(str(caught.value)) < 200


def test_keys_option() -> None:
    packer = EDN(keys="string")
    assert packer.packet({"a b": 1}, None) == b'[{"a b" 1} nil]'
    assert packer.unpack(b'[{"a b" 1, :c 2} nil]') == ({"a b": 1, "c": 2}, None)
    assert type(EDN().unpack(b'[{"a" 1} nil]')[0]) is StrDict
    with pytest.raises(ConfigError):
        EDN(keys="both")


def test_a_tag_that_nobody_knows_is_refused_both_ways_unless_asked_for() -> None:
    # as Sente's readers refuse it: nothing that the other end would drop is written
    tagged = Tagged("my/tag", [1])
    with pytest.raises(PacketError, match="expected a tag that has a reader, got #my/tag"):
        EDN().unpack(b"[[:a/b #my/tag [1]] nil]")
    with pytest.raises(EncodeError, match="tagged=True at both ends"):
        EDN().fragment(("a/b", tagged))
    assert EDN().unpack(b"[[:a/b #_ #my/tag [1] 2] nil]") == ([Keyword("a/b"), 2], None)
    packer = EDN(tagged=True)
    assert packer.packet(tagged, None) == b"[#my/tag [1] nil]"
    assert packer.unpack(b"[#my/tag [1] nil]") == (tagged, None)


def test_edn_packer_is_shown_and_pickled_by_its_option() -> None:
    packer = EDN("string")
    again = pickle.loads(pickle.dumps(packer))
    assert repr(packer) == repr(again) == "EDN(keys='string', tagged=False)"
    assert again.unpack(b"[{:a 1} nil]") == ({"a": 1}, None)
    assert not packer.binary


def test_edn_packer_gives_other_types_a_form_by_default() -> None:
    packer = EDN(default=complex.__str__)
    assert packer.fragment(("a/b", [1j])) == b'[:a/b ["1j"]]'
    assert packer.packet(1j, "cb") == b'["1j" "cb"]'
    assert packer.default is complex.__str__
    assert "default=<slot wrapper" in repr(packer)
    again = pickle.loads(pickle.dumps(EDN("string", default=str)))
    assert again.packet({"a": 1j}, None) == b'[{"a" "1j"} nil]'


def test_a_fragment_without_a_name_is_refused() -> None:
    for name in (None, 5, b"a/b", ("a", "b")):
        with pytest.raises(EncodeError, match="expected a keyword's name, got"):
            EDN().fragment((name, 1))  # type: ignore[arg-type]


def test_packers_that_fill_nothing_in_say_so() -> None:
    packer = Packer()
    for call in (
        lambda: packer.fragment(("a/b", 1)),
        lambda: packer.batch([]),
        lambda: packer.packet(1, None),
        lambda: packer.unpack(b""),
    ):
        with pytest.raises(NotImplementedError):
            call()


# -- packers in Python --


class Lines:
    """A packer of the public protocol: repr, one packet."""

    binary = True
    kept: object = None

    def fragment(self, event: tuple[str] | tuple[str, Any]) -> bytes:
        return repr(event).encode()

    def batch(self, fragments: list[bytes]) -> bytes:
        return b"\n".join(fragments)

    def packet(self, value: Any, cb_id: Any) -> bytes:
        return repr((value, cb_id)).encode()

    def unpack(self, view: memoryview) -> tuple[Any, Any]:
        if view[:4] == b"keep":
            self.kept = view[4:]
        if view[:4] == b"fail":
            raise KeyError("fail")
        if view[:4] == b"bad ":
            raise PacketError("bad one")
        return bytes(view), view.readonly and len(view) > 4


def test_a_packer_in_python_is_adapted() -> None:
    packer = adapt(Lines())
    assert isinstance(packer, ForeignPacker)
    assert packer.binary
    assert packer.fragment(("a/b", 1)) == b"('a/b', 1)"
    assert packer.batch([b"x", b"y"]) == b"x\ny"
    assert packer.packet(1, None) == b"(1, None)"
    assert packer.unpack(b"12345") == (b"12345", True)
    assert packer.unpack(b"") == (b"", None)


def test_a_packer_of_the_engine_is_taken_as_it_is() -> None:
    packer = EDN()
    assert adapt(packer) is packer
    assert type(packer) is EdnPacker


def test_what_a_foreign_packer_raises_is_a_packet_error_with_its_cause() -> None:
    packer = adapt(Lines())
    with pytest.raises(PacketError, match="KeyError") as caught:
        packer.unpack(b"fail")
    assert isinstance(caught.value.__cause__, KeyError)
    with pytest.raises(PacketError, match=r"\Abad one\Z"):
        packer.unpack(b"bad ")


def test_a_foreign_packer_that_keeps_a_view_is_told() -> None:
    with pytest.raises(PacketError, match="to copy what it keeps"):
        adapt(Lines()).unpack(b"keep this")


def test_a_foreign_packer_must_give_bytes() -> None:
    class Text(Lines):
        def batch(self, fragments: list[bytes]) -> Any:
            return "text"

    with pytest.raises(TypeError):
        adapt(Text()).batch([])
