"""The recordings in tests/data/transcripts, with what was cut from them made again.

Records come as `Record`s in the order of the file. Payloads past 3,000 characters were
cut when they were written down; in the scenario `big` they are digits and the end of
the message, so they can be made to their length. What a middlebox did, and not one of
the two sides, is left out. Nothing is sent or compared here.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "data" / "transcripts"

NAMES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))

DIGITS = "0123456789"
AJAX = b"\xd6\x00ajax"  # the callback id of a POST in MessagePack


@dataclass(frozen=True, slots=True)
class Record:
    """One line of a recording. `text`: a frame's payload or a body, whole; `binary`: the
    same where it was no text."""

    line: int
    kind: str
    time: float = 0.0  # seconds since the first connection
    conn: int = 0
    client: bool = False  # the client's side did it
    text: str = ""
    binary: bytes = b""
    opcode: int = 0
    fin: bool = True
    rsv: int = 0
    is_masked: bool = False
    size: int = 0  # of a frame's payload, characters (the cut ones are ASCII)
    code: int | None = None
    close_reason: str = ""
    method: str = ""
    target: str = ""
    version: str = ""
    status: int = 0
    reason: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    how: str = ""  # a connection ended: "fin" or "rst"
    cut: bool = False

    @property
    def payload(self) -> bytes:
        return self.binary or self.text.encode()


# What says what a client thought or where a probe begins, and is no traffic.
SILENT = ("note", "client-state", "case", "app-event")


def load(name: str) -> list[Record]:
    """Return the records of one recording, whole: what the two sides sent, and no more."""
    lines = _lines(name)[1:]
    boxed = {line["conn"] for line in lines if _is_boxed(line)}
    records = [
        record_of(number, line)
        for number, line in enumerate(lines, 2)
        if line["kind"] not in SILENT and line["conn"] not in boxed
    ]
    return _whole(records)


def packer(name: str) -> str:
    """Name the packer of both sides, as Sente calls it."""
    found: str = _lines(name)[0]["packer"]
    return found


def _lines(name: str) -> list[dict[str, Any]]:
    text = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n") if line]


def _is_boxed(line: dict[str, Any]) -> bool:
    """Return whether this connection never came to the server: a middlebox ended it."""
    return line.get("by") == "middlebox" or line.get("text", "").startswith("answered by the mi")


def record_of(number: int, line: dict[str, Any]) -> Record:
    """Make the record of one line of the file."""
    of: dict[str, Any] = {
        "time": line["t"],
        "binary": base64.b64decode(line.get("b64", line.get("body_b64", ""))),
        "text": line.get("text", line.get("body", "")),
        "headers": tuple((n, v) for n, v in line.get("headers", ())),
        "client": line.get("dir") == "c>s",
        "cut": bool(line.get("truncated") or line.get("body_truncated")),
        "size": line.get("len", line.get("body_len", 0)),
        "fin": bool(line.get("fin", 1)),
        "is_masked": bool(line.get("masked")),
        "close_reason": line.get("close_reason") or "",
    }
    same = (
        "kind",
        "conn",
        "opcode",
        "code",
        "rsv",
        "method",
        "target",
        "version",
        "status",
        "reason",
        "how",
    )
    return Record(line=number, **of, **{key: line[key] for key in same if key in line})


def _whole(records: list[Record]) -> list[Record]:
    """Make what was cut. A callback id that stood in the cut part is made up anew:
    the n-th request's is that of the n-th reply."""
    out = list(records)
    asked = answered = 0
    index = 0
    while index < len(out):
        first = out[index]
        if not first.cut:
            index += 1
            continue
        last = index
        while not out[last].fin:
            last = next(i for i in range(last + 1, len(out)) if _continues(first, out[i]))
        parts = [i for i in range(index, last + 1) if i == index or _continues(first, out[i])]
        size = sum(out[i].size for i in parts)
        if first.binary:
            is_reply = first.binary.startswith(b"\x92\x81")
            asks = b"test/req" in first.binary
            whole = _made_of_bytes(first, b"\xa6%06x" % (answered if is_reply else asked))
            asked, answered = asked + asks, answered + is_reply
            out[index] = replace(first, binary=whole, cut=False)
            index += 1
            continue
        form = first.kind == "http-request"
        is_http = form or first.kind == "http-response"
        if "test%2Freq" in first.text or "[[:test/req" in first.text:
            end = "%22%7D%5D%20%3Aajax%5D" if form else f'"}}] "{asked:06x}"]'
            asked += 1
        elif "test%2Fecho" in first.text or first.text.startswith("[[:test/echo"):
            end = "%22%7D%5D%20nil%5D" if form else '"}] nil]'
        elif first.text.startswith("[[[:test/echo"):
            end = '"}]] nil]'
        else:
            end = '"} nil]' if is_http else f'"}} "{answered:06x}"]'
            answered += 1
        whole = _made(first.text, size, end)
        start = 0
        for i in parts:
            piece = whole[start : start + out[i].size]
            if not piece.startswith(out[i].text):
                raise ValueError(f"line {out[i].line}: the cut text is no digits")
            out[i] = replace(out[i], text=piece, cut=False)
            start += out[i].size
        index = last + 1
    return out


def _continues(first: Record, other: Record) -> bool:
    mine = (first.kind, first.conn, first.client)
    return other.opcode == 0 and mine == (other.kind, other.conn, other.client)


def _made_of_bytes(record: Record, cb_id: bytes) -> bytes:
    """Make a MessagePack packet whole: the count of its digits stands before them, and the
    body of a POST has zeros after it."""
    start = record.binary.index(DIGITS.encode())
    count = int.from_bytes(record.binary[start - 4 : start])
    if record.binary[start - 5] != 0xDB or count not in (70_000, 1_000_000):
        raise ValueError(f"expected a str of 70,000 or 1,000,000 digits, got {count}")
    body = record.binary[:start] + (DIGITS * (count // 10)).encode()
    if record.kind == "http-request":
        body += AJAX if b"test/req" in record.binary else b"\xc0"
        return body + bytes(record.size - len(body))
    body += b"\xc0" if record.size == len(body) + 1 else cb_id
    if len(body) != record.size:
        raise ValueError(f"expected {record.size} bytes, got {len(body)}")
    return body


def _made(text: str, size: int, end: str) -> str:
    head = text[: text.index(DIGITS)]
    count = size - len(head) - len(end)
    if count not in (70_000, 1_000_000):
        raise ValueError(f"expected 70,000 or 1,000,000 digits, got {count}")
    return head + (DIGITS * (count // 10 + 1))[:count] + end
