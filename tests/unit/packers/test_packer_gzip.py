"""The gzip packer: the flag byte, what is compressed, and what is refused."""

from __future__ import annotations

import gzip
import zlib
from typing import Any

import pytest
import recorded_packets as recorded
from hypothesis import given
from hypothesis import strategies as st

from chansock.errors import ConfigError, PacketError
from chansock.packers import EDN, Gzip

LONG = "0123456789" * 200


def unpack(packet: bytes, packer: Gzip | None = None) -> tuple[Any, Any]:
    return (packer or Gzip(EDN())).unpack(memoryview(packet))


def refused(packet: bytes, packer: Gzip | None = None) -> str:
    with pytest.raises(PacketError) as caught:
        unpack(packet, packer)
    return str(caught.value)


def test_a_short_packet_is_behind_flag_0_as_it_is() -> None:
    assert Gzip(EDN()).packet([1, 2], "ab12cd") == b'\x00[[1 2] "ab12cd"]'
    assert Gzip(EDN()).binary


def test_1024_bytes_are_compressed_1023_are_not() -> None:
    inner = EDN()
    for size, flag in ((1023, 0), (1024, 1)):
        text = "a" * (size - len(inner.packet("", None)))
        assert len(inner.packet(text, None)) == size
        packet = Gzip(inner).packet(text, None)
        assert packet[0] == flag
        assert unpack(packet) == (text, None)


def test_what_is_compressed_is_one_gzip_stream_of_the_inner_packet() -> None:
    packet = Gzip(EDN()).packet(LONG, "cb")
    assert gzip.decompress(packet[1:]) == EDN().packet(LONG, "cb")


def test_what_gzip_would_lengthen_goes_as_it_is() -> None:
    noise = bytes(range(33, 127)) * 8
    text = "".join(map(chr, zlib.compress(noise, 9))).join(chr(0x4E00 + n * 7) for n in range(900))
    packet = Gzip(EDN()).packet(text, None)
    assert len(packet) <= 1 + len(EDN().packet(text, None))
    assert unpack(packet) == (text, None)


def test_any_flag_but_1_is_raw() -> None:
    for flag in (0, 2, 0x1F, 0x5B, 0xFF):
        assert unpack(bytes([flag]) + b'[[:a/b "x"] nil]') == (["a/b", "x"], None)


def test_a_fragment_is_the_inner_packers_and_a_batch_is_compressed_once() -> None:
    packer, inner = Gzip(EDN()), EDN()
    events: list[Any] = [("a/b", LONG), ("a/c",)]
    fragments = [packer.fragment(event) for event in events]
    assert fragments == [inner.fragment(event) for event in events]
    batch = packer.batch(fragments)
    assert gzip.decompress(batch[1:]) == inner.batch(fragments)
    assert unpack(batch) == ([["a/b", LONG], ["a/c"]], None)


def test_each_truncation_is_refused() -> None:
    packet = Gzip(EDN()).packet([LONG, {"a": [1, "é"]}], "cb")
    assert packet[0] == 1
    assert refused(b"") == "expected a flag byte and a packet, got nothing"
    for size in range(1, len(packet)):
        assert "gzip stream" in refused(packet[:size])
    packet = Gzip(EDN()).packet([1, {"a": [1, "é"]}], "cb")
    for size in range(2, len(packet)):
        refused(packet[:size])


def test_what_follows_the_stream_is_refused() -> None:
    packet = Gzip(EDN()).packet(LONG, None)
    assert refused(packet + b"\x00") == (
        "expected one gzip stream behind the flag 01, got 1 bytes more"
    )
    refused(packet + packet[1:])


def test_damage_is_refused() -> None:
    packet = bytearray(Gzip(EDN()).packet(LONG, None))
    packet[-6] ^= 1  # in the checksum
    assert "incorrect data check" in refused(bytes(packet))
    assert "incorrect header check" in refused(b"\x01[[:a/b] nil]")


def test_a_bomb_is_refused_at_its_limit() -> None:
    bomb = b"\x01" + gzip.compress(b"[" + b" " * (2 << 20) + b"]")
    assert "max_bytes" in refused(bomb)
    assert "at most 1048576 bytes" in refused(bomb)
    packet = Gzip(EDN()).packet(LONG, None)
    size = len(EDN().packet(LONG, None))
    assert unpack(packet, Gzip(EDN(), max_bytes=size)) == (LONG, None)
    assert f"at most {size - 1} bytes" in refused(packet, Gzip(EDN(), max_bytes=size - 1))


@pytest.mark.parametrize("given_", [0, -1, None, 1.5, True])
def test_a_limit_that_is_none_is_refused(given_: Any) -> None:
    with pytest.raises(ConfigError, match="max_bytes: expected a positive int"):
        Gzip(EDN(), max_bytes=given_)


@given(st.lists(st.text(max_size=2000)), st.sampled_from([None, "abc123"]))
def test_what_is_packed_is_unpacked(value: list[str], cb_id: Any) -> None:
    assert unpack(Gzip(EDN()).packet(value, cb_id)) == (value, cb_id)


# -- recorded


def test_recorded_values_are_those_of_the_edn_recording() -> None:
    name, edn = "node-ws-values-gzip-edn", "node-ws-values-edn"
    packer = Gzip(EDN())
    for event_id in ("test/echo", "test/req"):
        sent = recorded.sent(recorded.unpacked(packer, name), event_id)
        assert len(sent) > 60
        assert recorded.is_within(sent, recorded.sent(recorded.edn(edn), event_id))
    echoed = recorded.came_back(recorded.unpacked(packer, name), "test/echo")
    assert len(echoed) > 100
    assert recorded.is_within(echoed, recorded.came_back(recorded.edn(edn), "test/echo"))
    pairs = recorded.replies(recorded.unpacked(packer, name))
    assert len(pairs) > 60
    assert all(asked == answered for asked, answered in pairs)


def test_recorded_packets_of_a_million_characters_are_read() -> None:
    messages = list(recorded.unpacked(Gzip(EDN()), "node-ws-big-gzip-edn"))
    sizes = [len(value[1]["s"]) for is_client, value, _ in messages if is_client]
    assert sizes == [2_000, 2_000, 70_000, 70_000, 1_000_000, 1_000_000]
