"""The peer itself, against the bytes that RFC 6455 prints."""

from __future__ import annotations

import asyncio

import peer


def test_accept_is_that_of_rfc_6455_section_1_3() -> None:
    assert peer.accept_of("dGhlIHNhbXBsZSBub25jZQ==") == "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


def test_masked_hello_of_rfc_6455_section_5_7() -> None:
    assert peer.unmask(bytes.fromhex("7f9f4d5158"), bytes.fromhex("37fa213d")) == b"Hello"
    assert peer.frame(peer.TEXT, "Hello", mask=False) == bytes.fromhex("810548656c6c6f")


def test_built_frames_are_read_back_at_each_length_form() -> None:
    async def main() -> None:
        reader = asyncio.StreamReader()
        sizes = (0, 1, 125, 126, 65_535, 65_536)
        for size in sizes:
            reader.feed_data(peer.frame(peer.BINARY, b"x" * size))
        reader.feed_eof()
        for size in sizes:
            found = await peer.read_frame(reader)
            assert (found.opcode, found.masked, found.payload) == (2, True, b"x" * size)

    asyncio.run(main())
