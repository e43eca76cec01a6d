"""Plays a recording's client against a server on a real port, and compares the answers.

What the client did is done again as soon as everything before it was matched; no
recorded time is waited for. What the server did is compared as values. Where the
two may differ stands in MAY_DIFFER, and nowhere else.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable
from dataclasses import astuple, dataclass, field
from typing import Any

import peer
from recorded_servers import Read, reader
from recording import Record, load
from recording_order import client_id, is_poll, order_of_send
from same import Mismatch, event, is_batch, tree

MAY_DIFFER = {
    "date": "the clock of another day",
    "server": "we do not name our software",
    "content-type": "Sente's server calls edn text/html, and its clients ignore it",
    "added headers": "nosniff, no-store and the like; the recorded ones must all be there",
    "key order": "a map and a set have none; a body's length follows its spelling",
    "times": "nothing is slept for",
    "batch boundaries": "which events share a packet depends on when a timer fired, and so "
    "does the place of a whole batch that Sente had to try again: recording_order",
    "reply among pushes": "Sente leaves open which of the two comes first",
    "end of a poll by [:chsk/close]": "503, so that every client comes back; http-kit wrote "
    "five stray bytes instead of a response",
    "close code of a silent client": "1011 with a reason, so that a log tells why; Sente's "
    "1000 looks like a close that the application wanted",
    "pings": "Sente's windows drift by what its timers were late, ours do not: so one may come "
    "a window earlier or later, and a connection may see one more",
    "answers to who has left": "a client that asks and goes away at once may still be "
    "answered; nobody reads it",
    "pushes that Sente lost": "its server could not see that a poll had been dropped and "
    "wrote into it; ours go to the next poll",
}

# Where the last row happens: (recording, connection of the next poll) -> what it gets.
LOST_IN_A_DROPPED_POLL = {
    ("chromium-ajax-two-tabs", 3): "[[[:test/echo :gap]] nil]",
    ("node-ajax-two-tabs", 4): "[[[:test/echo :gap]] nil]",
}

PATIENCE = 60.0  # seconds for one answer: what comes late differs from what was recorded


@dataclass(eq=False)
class Line:
    """One TCP connection and what came on it, as read by a task of its own."""

    wire: peer.Peer
    read: Read
    take_single: Callable[[Line, Hashable], None]
    reader: asyncio.Task[None] | None = None
    answers: deque[peer.Answer] = field(default_factory=deque)
    count: int = 0  # of all answers so far
    singles: deque[Hashable] = field(default_factory=deque)  # handshakes and pings
    events: deque[Hashable] = field(default_factory=deque)
    replies: dict[Hashable, Hashable] = field(default_factory=dict)
    pongs: deque[bytes] = field(default_factory=deque)  # of RFC 6455
    opcodes: set[int] = field(default_factory=set)  # of all messages so far
    close: tuple[int | None, str] | None = None
    at_end: bool = False
    is_left: bool = False  # its client went away before the answer
    asked: Record | None = None  # the request that is not answered yet
    fault: BaseException | None = None

    def take_frame(self, found: peer.Frame) -> None:
        if found.masked or found.rsv:
            raise Mismatch(f"expected an unmasked frame without RSV bits, got {found!r:.200}")
        if found.opcode == peer.CLOSE:
            self.close = (found.code, found.reason)
            return
        if found.opcode == peer.PONG and found.fin:
            self.pongs.append(found.payload)
            return
        if found.opcode not in (peer.TEXT, peer.BINARY) or not found.fin:
            raise Mismatch(f"expected a whole message, got {found!r:.200}")
        self.opcodes.add(found.opcode)
        value, cb = self.read(found.payload)
        if cb is not None:
            if tree(cb) in self.replies:
                raise Mismatch(f"a second reply for {cb!r}: {value!r:.200}")
            self.replies[tree(cb)] = tree(value)
        elif is_batch(value):
            self.events.extend(map(event, value))
        else:
            self.take_single(self, tree(value))


@dataclass(eq=False)
class Chain:
    """The polls of one Ajax client, one after the other, and the events they brought."""

    client_id: str
    events: deque[Hashable] = field(default_factory=deque)
    line: Line | None = None  # whose poll is parked or was answered last
    is_parked: bool = False  # in the recording: a poll waits for its answer
    is_carried: bool = False  # its recorded answer came with an earlier one: it still waits


class Replay:
    """One recording against one server."""

    def __init__(self, name: str, port: int, *, patience: float = PATIENCE) -> None:
        self.name = name
        self.port = port
        self.patience = patience
        self.read = reader(name)
        self.records = load(name)
        self.lines: dict[int, Line] = {}
        self.all_lines: list[Line] = []
        self.chains: list[Chain] = []
        self.asked: dict[int, Record] = {}  # in the recording: the request a connection waits for
        self.ranks, self.batches = astuple(order_of_send(self.records, self.read))
        self.done_ranks = 0
        self.changed = asyncio.Event()
        self.posts: set[asyncio.Task[None]] = set()

    async def play(self) -> None:
        try:
            for record in self.records:
                try:
                    await self._step(record)
                except Mismatch as error:
                    raise Mismatch(f"{self.name} line {record.line}: {error}") from None
            self._nothing_more()
        finally:
            for task in [*self.posts, *(line.reader for line in self.all_lines if line.reader)]:
                task.cancel()
            await asyncio.gather(
                *(line.wire.close() for line in self.all_lines), return_exceptions=True
            )

    async def _step(self, record: Record) -> None:
        match record.kind, record.client:
            case "open", _:
                self.lines[record.conn] = await self._open()
            case "http-request", _:
                await self._ask(record)
            case "ws-frame", True:
                await self._send_frame(record)
            case "ws-frame", False:
                await self._match_frame(record)
            case "http-response", _:
                await self._match_answer(record)
            case "raw-bytes", _:
                await self._match_end_of_poll(record)
            case "close", True:
                await self._before_close(record)
                line = self.lines[record.conn]
                if record.how == "rst":
                    line.wire.reset()
                elif not line.at_end:
                    line.wire.fin()
            case "close", False:
                line = self.lines[record.conn]
                await self._until(lambda: line.at_end, "the end of the connection", line)
            case other:
                raise ValueError(f"expected a known kind of record, got {other!r}")

    # -- connections

    async def _open(self) -> Line:
        line = Line(await peer.Peer.connect(self.port), self.read, self._take_single)
        self.all_lines.append(line)
        line.reader = asyncio.create_task(self._read(line))
        return line

    async def _read(self, line: Line) -> None:
        is_socket = False
        try:
            while True:
                if is_socket:
                    line.take_frame(await peer.read_frame(line.wire.reader))
                else:
                    answer = await peer.read_answer(line.wire.reader)
                    is_socket = answer.status == 101
                    line.answers.append(answer)
                    line.count += 1
                self.changed.set()
        except (asyncio.IncompleteReadError, ConnectionResetError):
            line.at_end = True
        except Exception as error:
            line.fault = error
        self.changed.set()

    def _take_single(self, line: Line, value: Hashable) -> None:
        line.singles.append(value)

    async def _until(self, is_so: Callable[[], bool], what: str, line: Line) -> None:
        try:
            async with asyncio.timeout(self.patience):
                while not is_so():
                    for each in self.all_lines:
                        if each.fault is not None:
                            raise Mismatch(f"while waiting for {what}: {each.fault}")
                    if line.at_end:
                        raise Mismatch(f"expected {what}, got the end of the connection")
                    await self._change()
        except TimeoutError:
            raise Mismatch(f"expected {what}, got nothing; there is {self._there(line)}") from None

    async def _change(self) -> None:
        self.changed.clear()
        await self.changed.wait()

    @staticmethod
    def _there(line: Line) -> str:
        return (
            f"answers {list(line.answers)!r:.300} events {list(line.events)!r:.300} "
            f"replies {line.replies!r:.300} singles {line.singles!r:.300} "
            f"close {line.close!r} end {line.at_end}"
        )

    # -- WebSocket

    async def _send_frame(self, record: Record) -> None:
        payload = record.payload
        if record.opcode == peer.CLOSE:
            payload = peer.close_payload(record.code, record.close_reason)
        line = self.lines[record.conn]
        if not line.at_end:  # else it is too late, as it was for the recorded client
            await line.wire.send(peer.frame(record.opcode, payload, fin=record.fin))

    async def _match_frame(self, record: Record) -> None:
        line = self.lines[record.conn]
        if record.opcode == peer.CLOSE:
            await self._until(lambda: line.close is not None, "a close frame", line)
            _equal("close frame", self._close_of(record), line.close)
            return
        if record.opcode == peer.PONG:
            await self._until(lambda: bool(line.pongs), "a pong", line)
            _equal("pong", record.payload, line.pongs.popleft())
            return
        value, cb = self.read(record.payload)
        if cb is not None:
            key = tree(cb)
            await self._until(lambda: key in line.replies, f"the reply for {cb!r}", line)
            _equal(f"reply for {cb!r}", tree(value), line.replies.pop(key))
        elif is_batch(value):
            for item in value:
                await self._until(lambda: bool(line.events), f"the event {item!r:.200}", line)
                _equal("event", event(item), line.events.popleft())
        else:
            await self._until(lambda: bool(line.singles), f"the packet {value!r:.200}", line)
            _equal("packet", tree(value), line.singles.popleft())
        _equal("kind of frames", {record.opcode}, line.opcodes)

    @staticmethod
    def _close_of(record: Record) -> tuple[int | None, str]:
        return record.code, record.close_reason

    # -- Ajax

    async def _ask(self, record: Record) -> None:
        self.asked[record.conn] = record
        if record.method == "POST":
            task = asyncio.create_task(self._post(record, self.lines[record.conn]))
            self.posts.add(task)
            task.add_done_callback(self.posts.discard)
            if record.line not in self.ranks:
                await task
            return
        if is_poll(record):
            chain = self._chain(record)
            chain.is_parked = True
            if chain.is_carried:
                # its answer came early, so its next poll is the one that still waits
                chain.is_carried = False
                assert chain.line is not None
                self.lines[record.conn] = chain.line
                chain.line.asked = record
                return
            chain.line = self.lines[record.conn]
        await self._send(record, self.lines[record.conn])

    async def _post(self, record: Record, line: Line) -> None:
        """Send a POST; where several were under way at once, in the order in which the
        recorded server took them, which its pushes tell."""
        rank = self.ranks.get(record.line)
        if rank is not None:
            while self.done_ranks < rank:
                await self._change()
        before = line.count
        await self._send(record, line)
        if rank is not None:
            while line.count == before and not line.at_end:
                await self._change()
            self.done_ranks = rank + 1
            self.changed.set()

    @staticmethod
    async def _send(record: Record, line: Line) -> None:
        line.asked = record
        body = record.payload
        fields = [
            (name, str(len(body)) if name.lower() == "content-length" else value)
            for name, value in record.headers
        ]
        await line.wire.send(peer.request(record.method, record.target, fields, body))

    def _chain(self, record: Record) -> Chain:
        """The client whose next poll this is: of that client-id, and with none parked."""
        who = client_id(record)
        for chain in self.chains:
            if chain.client_id == who and not chain.is_parked:
                return chain
        self.chains.append(Chain(who))
        return self.chains[-1]

    async def _match_answer(self, record: Record) -> None:
        line = self.lines[record.conn]
        asked = self.asked.pop(record.conn)
        if asked.method == "GET" and is_poll(asked) and record.status == 200:
            chain = next(c for c in self.chains if c.is_parked and c.line is line)
            await self._match_poll(record, chain)
            return
        await self._until(lambda: bool(line.answers), f"the answer {record.status}", line)
        answer = line.answers.popleft()
        _equal("status", (record.status, record.reason), (answer.status, answer.reason))
        _match_headers(record, answer)
        if record.status == 200:
            _equal("body", tree(self.read(record.payload)), tree(self.read(answer.body)))
        else:
            _equal("body", record.text, answer.text)

    async def _match_poll(self, record: Record, chain: Chain) -> None:
        """Take the events of one recorded poll; ours may have needed fewer polls or more."""
        line, asked = chain.line, chain.line.asked if chain.line else None
        assert line is not None
        assert asked is not None
        wanted = self._wanted(record)
        chain.is_parked = False
        if not is_batch(wanted):
            await self._until(lambda: bool(line.answers), f"a poll with {wanted!r:.200}", line)
            _equal("poll", tree(wanted), tree(self.read(line.answers.popleft().body)[0]))
            return
        is_answered = False
        for item in wanted:
            while not chain.events:
                if is_answered:
                    await self._send(asked, line)
                await self._until(lambda: bool(line.answers), f"a poll with {item!r:.200}", line)
                self._take_poll(record, chain, line)
                is_answered = True
            _equal("event", event(item), chain.events.popleft())
        if not is_answered and line.answers:
            self._take_poll(record, chain, line)
        elif not is_answered:
            chain.is_carried = True
            self.lines[record.conn] = await self._open()

    def _wanted(self, record: Record) -> Any:
        """Return what a recorded poll brought, and what it should have brought before that."""
        if record.line not in self.batches:
            return self.read(record.payload)[0]
        lines = self.batches[record.line]
        at = {each.line: each for each in self.records if each.line in lines}
        return [item for line in lines for item in self.read(at[line].payload)[0]]

    def _take_poll(self, record: Record, chain: Chain, line: Line) -> None:
        answer = line.answers.popleft()
        _equal("status", (record.status, record.reason), (answer.status, answer.reason))
        _match_headers(record, answer)
        batch, cb = self.read(answer.body)
        if cb is not None or not is_batch(batch):
            raise Mismatch(f"expected a batch in the poll, got {answer.body!r:.200}")
        chain.events.extend(map(event, batch))

    async def _match_end_of_poll(self, record: Record) -> None:
        """The row `end of a poll by [:chsk/close]`."""
        line = self.lines[record.conn]
        del self.asked[record.conn]
        await self._until(lambda: bool(line.answers), "the end of the poll", line)
        _equal("end of the poll", 503, line.answers.popleft().status)
        for chain in self.chains:
            if chain.line is line:
                chain.is_parked = False

    async def _before_close(self, record: Record) -> None:
        """The rows `pushes that Sente lost` and `answers to who has left`; and a poll that
        is dropped is over."""
        asked = self.asked.get(record.conn)
        self.lines[record.conn].is_left = asked is not None and not is_poll(asked)
        lost = LOST_IN_A_DROPPED_POLL.get((self.name, record.conn))
        for chain in self.chains:
            if chain.line is self.lines[record.conn] and chain.is_parked:
                if lost is not None:
                    late = Record(record.line, "http-response", text=lost, status=200, reason="OK")
                    await self._match_poll(late, chain)
                chain.is_parked = False

    def _nothing_more(self) -> None:
        for line in self.all_lines:
            if line.fault is not None:
                raise Mismatch(f"{self.name}: {line.fault}")
            if line.is_left:
                continue
            if line.answers or line.events or line.replies or line.singles or line.pongs:
                raise Mismatch(f"{self.name}: expected no more, got {self._there(line)}")
        for chain in self.chains:
            if chain.events:
                raise Mismatch(f"{self.name}: expected no more events, got {chain.events!r:.300}")


def _equal(what: str, expected: object, got: object) -> None:
    if expected != got:
        raise Mismatch(f"{what}: expected {expected!r:.400}, got {got!r:.400}")


def _match_headers(record: Record, answer: peer.Answer) -> None:
    for name, value in record.headers:
        if name.lower() in MAY_DIFFER or name.lower() == "content-length":
            continue
        found = answer.header(name)
        exact = name.lower() == "sec-websocket-accept"
        if found is None or (found != value if exact else found.lower() != value.lower()):
            raise Mismatch(f"header {name}: expected {value!r}, got {found!r}")
