"""JSON: any bytes are a packet or refused with a PacketError, as the standard library reads them;
what was read is written and read back, but for what only the channel may say.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from chansock.errors import EncodeError, PacketError
from chansock.packers import JSON

PACKER = JSON()

WORDS = tuple(
    b'"chat/say"|"chsk/handshake"|"chsk/ws-ping"|"sente/nil-uid"|null|true|false|NaN|1e400|-0.0|1.5'
    b'|9007199254740992|123456789012345678901234567890|{"a":|"a":1,|[[["a/b",|,null]|,"2c4461"]'
    b'|\\ud83d\\ude00|\\ud800|\\u0041|\xe9|\xc3\xa9|{|}|[|]|,|:| |"|\\'.split(b"|")
)


def seeds() -> Iterator[bytes]:
    """Return packets of each shape, and corners of JSON."""
    yield b'[["chat/say",{"text":"hi","n":[1,-2.5e3,null,true]}],null]'
    yield b'[["math/double",21],"2c4461"]'
    yield b'[{"a":{"b":["c/d"]}},"2c4461"]'
    yield b'[[["chat/said",{"text":"\\u00e9"}],["a/b"]],null]'
    yield b'[["chsk/handshake",["sente/nil-uid",null,{"motd":"hi"}]],null]'
    yield b'[["chsk/handshake",[9007199254740992,null]],null]'
    yield b'["chsk/ws-ping",null]'
    yield b'[["chsk/ws-ping"],"ajax"]'
    yield b'[{"a":1,"a":2}]'
    yield b"[" * 501 + b"]" * 501
    for word in WORDS:
        yield b"[" + word + b"]"


def check(data: bytes) -> None:
    try:
        value, cb_id = PACKER.unpack(memoryview(data))
    except PacketError:
        return
    packet = json.loads(data.decode())
    theirs = (packet or []) + [None, None]
    assert same([value, cb_id], theirs[:2])
    try:
        written = PACKER.packet(value, cb_id)
    except EncodeError as error:
        # integers that JavaScript would round, lists in front that are the channel's alone
        _expect(error, "has a form for", "outside the namespace chsk")
        return
    again, again_id = PACKER.unpack(memoryview(written))
    if _is_handshake(value) and type(value[1][0]) is int and abs(value[1][0]) >= 2**53:
        value[1][0] = str(value[1][0])  # a uid that JavaScript would round travels as text
    assert same([again, again_id], [value, cb_id]), written


def _is_handshake(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and value[0] == "chsk/handshake"
        and isinstance(value[1], list)
        and bool(value[1])
    )


def _expect(error: EncodeError, *reasons: str) -> None:
    assert any(reason in error.message for reason in reasons), error


def same(one: Any, other: Any) -> bool:
    """Return whether two values are the same JSON: 1 is not 1.0, and -0.0 not 0.0."""
    return json.dumps(one) == json.dumps(other)
