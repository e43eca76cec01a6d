"""chansock._fast.ws.frames: the answer to a handshake; the oracles are RFC 6455 and hashlib."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha1

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chansock._fast.ws.frames import accept_key, switch


def test_the_accept_key_is_that_of_rfc_6455() -> None:
    assert accept_key(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@given(st.binary(min_size=16, max_size=16))
def test_an_accept_key_is_sha1_in_base64(nonce: bytes) -> None:
    key = b64encode(nonce)
    digest = sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11", usedforsecurity=False).digest()
    assert accept_key(key) == b64encode(digest)
    assert b"\r\nSec-WebSocket-Accept: %s\r\n\r\n" % b64encode(digest) in switch(key)


def test_a_key_of_another_length_has_no_answer() -> None:
    for function in (accept_key, switch):
        with pytest.raises(ValueError, match="key: expected 24 bytes, got 23"):
            function(b"A" * 23)
