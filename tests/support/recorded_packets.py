"""The packets of the recordings with Sente's other packers, and the values of those with edn
that they are compared with."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Hashable, Iterator
from typing import Any

import recording
from same import tree, values

from chansock.packers import Packer
from chansock.values import Keyword


def packets(name: str) -> Iterator[tuple[bool, bytes]]:
    """Return (is the client's, payload) of each message on a recorded WebSocket."""
    text = (recording.FOLDER / f"{name}.jsonl").read_text(encoding="utf-8")
    for line in text.split("\n"):
        record = json.loads(line) if line else {}
        if record.get("opcode", 1) in (1, 2) and not record.keys().isdisjoint(("text", "b64")):
            is_text = "text" in record
            payload = record["text"].encode() if is_text else b64decode(record["b64"])
            yield record["dir"] == "c>s", payload


def unpacked(packer: Packer, name: str) -> Iterator[tuple[bool, Any, Any]]:
    """Return (is the client's, value, callback id) of each recorded message."""
    for is_client, payload in packets(name):
        value, cb_id = packer.unpack(memoryview(payload))
        yield is_client, value, cb_id


def edn(name: str) -> Iterator[tuple[bool, Any, Any]]:
    """Return the same of a recording in tests/data/transcripts."""
    for record in recording.load(name):
        if record.kind == "ws-frame" and record.opcode == 1:
            value, cb_id = values(record.text)
            yield record.client, value, cb_id


def sent(messages: Iterator[tuple[bool, Any, Any]], event_id: str) -> list[Hashable]:
    """List the data of the events of one id that the client sent, in order."""
    return [
        tree(value[1])
        for is_client, value, _ in messages
        if is_client and value[0] == event_id and len(value) > 1
    ]


def came_back(messages: Iterator[tuple[bool, Any, Any]], event_id: str) -> list[Hashable]:
    """List the data of the pushes of one id that the client got, in order."""
    return [
        tree(event[1])
        for is_client, value, cb_id in messages
        if not is_client and cb_id is None and type(value[0]) is not Keyword
        for event in value
        if event[0] == event_id
    ]


def replies(messages: Iterator[tuple[bool, Any, Any]]) -> list[tuple[Hashable, Hashable]]:
    """Pair what was asked with what was answered."""
    asked: dict[Any, Hashable] = {}
    pairs = []
    for is_client, value, cb_id in messages:
        if cb_id is None:
            continue
        if is_client:
            asked[cb_id] = tree(value[1])
        else:
            pairs.append((asked.pop(cb_id), tree(value)))
    return pairs


def is_within(part: list[Hashable], whole: list[Hashable]) -> bool:
    """Return whether all of part stands in whole, in that order."""
    rest = iter(whole)
    return all(any(found == wanted for found in rest) for wanted in part)
