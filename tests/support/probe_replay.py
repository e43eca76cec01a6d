"""Plays a recorded probe, case by case, and gives what both servers did, to be compared.

A probe is hand-made input, raw and often wrong, at its own times in virtual time. Each
case's result says what came back on each connection, what the application was told, and
who was connected. Nothing is judged here: `probe_differences` has what differs, and why.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import peer
from recording import Record, record_of
from same import event, is_batch, tree, values

from chansock import ANONYMOUS, ChannelSocket, EventMsg, edn
from chansock.values import Keyword

FOLDER = Path(__file__).parents[1] / "data" / "probes"
NAMES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))

NIL_UID = Keyword("sente/nil-uid")
END = 0.2  # seconds after the last record
LATENESS = 2.0  # seconds; by up to 1.8 the recorded machine was late
TICK = 0.1  # seconds of virtual time between two looks at who is connected


@dataclass(eq=False)
class Case:
    """What was tried, and what followed: `came` as (connection and kind, what), and with
    their times what the application was `told` and who its `users` were from then on."""

    text: str
    start: float
    records: list[Record] = field(default_factory=list)
    came: list[tuple[str, str]] = field(default_factory=list)
    told: list[tuple[float, str]] = field(default_factory=list)
    users: list[tuple[float, str]] = field(default_factory=list)

    def result(self) -> dict[str, list[str]]:
        """Return what followed, by connection and kind; pushes and replies have no order."""
        found: dict[str, list[str]] = {}
        for key, what in self.came:
            found.setdefault(key, []).append(what)
        for key, what in (("told", self.told), ("users", self.users)):
            if what:
                found[key] = [text for _, text in what]
        return found


def spell(of: Hashable) -> str:
    """Spell a tree of `same`: equal trees alike, unequal ones not."""
    match of:
        case (("vector" | "list" | "set" | "map") as kind, items):
            if kind == "map":
                parts = sorted(f"{spell(k)} {spell(v)}" for k, v in items)
            else:
                parts = [spell(item) for item in items]
                parts = sorted(parts) if kind == "set" else parts
            left, right = {"vector": "[]", "list": "()", "set": ("#{", "}"), "map": "{}"}[kind]
            return left + " ".join(parts) + right
        case ("keyword", name):
            return f":{name}"
        case ("str", text):
            return json.dumps(text, ensure_ascii=False)
        case ("NoneType", _):
            return "nil"
        case ("int" | "float" | "bool" | "Decimal" | "Fraction" as kind, text):
            return text if kind == "int" else f"{kind}:{text}"
        case (kind, *rest):
            return f"{kind}:{rest}"
        case other:
            raise ValueError(f"expected a tree, got {other!r}")


def load(name: str) -> list[Case]:
    """Return the cases of a probe with what Sente did."""
    cases: list[Case] = []
    left: set[int] = set()
    happened: list[dict[str, Any]] = []
    lines = (FOLDER / f"{name}.jsonl").read_text(encoding="utf-8").split("\n")
    for number, line in enumerate((json.loads(text) for text in lines if text), 1):
        if line["kind"] == "case":
            cases.append(Case(line["text"], line["t"]))
        elif line["kind"] == "app-event":
            happened.append(line)
        elif line["kind"] != "meta":
            record = record_of(number, line)
            cases[-1].records.append(record)
            if record.client:
                left |= {record.conn} if record.kind == "close" else set()
            elif record.kind == "close":
                cases[-1].came += [] if record.conn in left else [ended(record.conn)]
            elif record.kind != "open":
                cases[-1].came += came(record)
    for line in happened:  # written down at the end of a case, or in the next
        _happened(next(case for case in reversed(cases) if case.start <= line["at"]), line)
    _without_short_ones(cases)
    return cases


def _happened(case: Case, line: dict[str, Any]) -> None:
    found = edn.loads(line["edn"])
    if "uids-changed" in found:
        case.users.append((line["at"], _users(found["uids-changed"])))
        return
    asks = ", asks" if found["reply?"] else ""
    uid, value = found["uid"], spell(event(edn.loads(found["event"])))
    case.told.append((line["at"], f"{value} of {uid} at {found['client-id']}{asks}"))


def _users(of: dict[str, set[Any]]) -> str:
    return " ".join(f"{kind} {sorted(map(str, of[kind]))}" for kind in ("ws", "ajax", "any"))


def _without_short_ones(cases: list[Case]) -> None:
    """Drop what our look every TICK cannot see: users that changed again at once."""
    times = [at for case in cases for at, _ in case.users]
    after = dict(zip(times, [*times[1:], math.inf], strict=False))
    for case in cases:
        case.users = [(at, users) for at, users in case.users if after[at] - at > TICK]


def came(record: Record) -> list[tuple[str, str]]:
    """Return what one record of a server brought."""
    conn = record.conn
    if record.kind == "http-response":
        return _answer(conn, record.status, record.payload)
    if record.kind == "raw-bytes":
        return [(f"{conn} bytes", repr(record.payload))]
    if record.opcode == peer.CLOSE:
        return [(f"{conn} close", f"{record.code} {record.close_reason}".rstrip())]
    if record.opcode == peer.PONG:
        return [(f"{conn} pong", record.payload.decode())]
    return _packet(conn, record.payload)


def ended(conn: int) -> tuple[str, str]:
    return f"{conn} end", "by the server"


def _answer(conn: int, status: int, body: bytes) -> list[tuple[str, str]]:
    if status in (101, 200):
        return [(f"{conn} answer", str(status)), *(_packet(conn, body) if body else [])]
    return [(f"{conn} answer", f"{status} {body.decode()}".rstrip())]


def _packet(conn: int, payload: bytes) -> list[tuple[str, str]]:
    value, cb = values(payload)
    if cb is None and is_batch(value) and value:
        return [(f"{conn} event", spell(event(item))) for item in value]
    return [(f"{conn} packet", f"[{spell(tree(value))} {spell(tree(cb))}]")]


@dataclass(eq=False)
class Line:
    """One connection to our server."""

    conn: int
    wire: peer.Peer
    asked: list[str] = field(default_factory=list)  # methods of requests without an answer
    is_left: bool = False
    reader: asyncio.Task[None] | None = None


class ProbeReplay:
    """One probe against one server, both on a SocketLoop."""

    def __init__(self, name: str) -> None:
        self.recorded = load(name)
        self.cases = [Case(case.text, case.start) for case in self.recorded]
        self.case = self.cases[0]
        self.lines: dict[int, Line] = {}
        self.all_lines: list[Line] = []
        self.start = 0.0
        last = self.recorded[-1]
        times = [record.time for record in last.records]
        self.end = max(*times, *(at for at, _ in (*last.told, *last.users))) + END

    def told(self, msg: EventMsg[Any]) -> None:
        """Note what a handler was given."""
        uid = NIL_UID if msg.uid is None else msg.uid
        value = spell(event([Keyword(msg.id), NIL_UID if msg.data is ANONYMOUS else msg.data]))
        asks = ", asks" if msg.wants_reply else ""
        self.case.told.append((self._now(), f"{value} of {uid} at {msg.client_id}{asks}"))

    async def play(self, chsk: ChannelSocket, port: int) -> None:
        self.start = asyncio.get_running_loop().time()
        looking = asyncio.create_task(self._look(chsk))
        try:
            for recorded, case in zip(self.recorded, self.cases, strict=True):
                await self._sleep_until(recorded.start)
                self.case = case
                for record in recorded.records:
                    if record.client:
                        await self._sleep_until(record.time)
                        await self._do(record, port)
            await self._sleep_until(self.end)
        finally:
            looking.cancel()
            for line in self.all_lines:
                if line.reader is not None:
                    line.reader.cancel()
                await line.wire.close()

    async def _do(self, record: Record, port: int) -> None:
        line = self.lines.get(record.conn)
        if line is None:
            line = self.lines[record.conn] = Line(record.conn, await peer.Peer.connect(port))
            self.all_lines.append(line)
            line.reader = asyncio.create_task(self._read(line))
        with suppress(ConnectionError):  # it ended the connection, which was noted
            if record.kind == "close":
                line.is_left = True
                if record.how == "rst":
                    line.wire.reset()
                else:
                    line.wire.fin()
            elif record.kind == "http-request":
                line.asked.append(record.method)
                await line.wire.send(_request(record))
            else:
                await line.wire.send(_frame(record))

    async def _read(self, line: Line) -> None:
        is_socket = False
        with suppress(asyncio.IncompleteReadError, ConnectionResetError):
            while True:
                if is_socket:
                    found = await peer.read_frame(line.wire.reader)
                    record = Record(
                        0,
                        "ws-frame",
                        conn=line.conn,
                        opcode=found.opcode,
                        binary=found.payload,
                        code=found.code if found.opcode == peer.CLOSE else None,
                        close_reason=found.reason if found.opcode == peer.CLOSE else "",
                    )
                    self.case.came += came(record)
                else:
                    is_head = line.asked[:1] == ["HEAD"]
                    answer = await peer.read_answer(line.wire.reader, head_only=is_head)
                    line.asked.pop(0)
                    is_socket = answer.status == 101
                    self.case.came += _answer(line.conn, answer.status, answer.body)
        if not line.is_left:
            self.case.came.append(ended(line.conn))

    async def _look(self, chsk: ChannelSocket) -> None:
        last = ""
        while True:
            live = chsk.connected
            of = {"ws": live.ws, "ajax": live.ajax, "any": live.any}
            users = _users(
                {kind: {NIL_UID if u is ANONYMOUS else u for u in of[kind]} for kind in of}
            )
            if users != last and (last or live.any):
                self.case.users.append((self._now(), users))
                last = users
            await asyncio.sleep(TICK)

    async def _sleep_until(self, when: float) -> None:
        await asyncio.sleep(max(0.0, when - self._now()))

    def _now(self) -> float:
        return asyncio.get_running_loop().time() - self.start


def _request(record: Record) -> bytes:
    lines = [f"{record.method} {record.target} {record.version}"]
    lines += [f"{name}: {value}" for name, value in record.headers]
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + record.payload


def _frame(record: Record) -> bytes:
    payload = record.payload
    if record.opcode == peer.CLOSE:
        payload = peer.close_payload(record.code, record.close_reason)
    return peer.frame(record.opcode, payload, fin=record.fin, rsv=record.rsv, mask=record.is_masked)


def differences(recorded: Case, ours: Case) -> dict[str, list[str] | None]:
    """Return what ours did where the two differ, and its times where they do; None: nothing."""
    was, now = recorded.result(), ours.result()
    found = {key: now.get(key) for key in sorted({*was, *now}) if was.get(key) != now.get(key)}
    for key, then, later in [
        ("told", recorded.told, ours.told),
        ("users", recorded.users, ours.users),
    ]:
        if key in found:
            continue
        if any(abs(t - u) > LATENESS for (t, _), (u, _) in zip(then, later, strict=True)):
            found[f"{key} at"] = [f"{at:.1f} s" for at, _ in later]
    return found
