"""What a channel owes its clients, in plain lists: the model of tests/conformance/test_model.py.

Written from what is specified, not from the code. Each call tells the model what happens
just before the channel is told; what the channel then writes is looked at by `observe`,
packet by packet. Nothing of chansock is in it but its targets and errors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from chansock import ALL, ANONYMOUS, Config
from chansock.target import ClientTarget

SLACK = 1e-3  # seconds; less than any time drawn
AROUND_EVENT, AROUND_REPLY = 192, 224  # bytes that count besides an item's own
AROUND_NODE, AROUND_BOX = 96, 16  # of AROUND_EVENT, for each history; for each that waits
MAX_DISPLACED = 8


@dataclass(slots=True, eq=False)
class Item:
    """An event or a reply that waits."""

    value: Any  # an event's data, or a reply's value
    size: int
    event: object | None  # the same for all whom a send meant; None: a reply
    key: str | None = None
    since: float = 0.0

    @property
    def is_event(self) -> bool:
        return self.event is not None


@dataclass(slots=True, eq=False)
class Line:
    """One connection: a socket or a parked poll. `peer` is what the test holds of it."""

    kind: str
    session: Session
    peer: Any = None  # has a RecordingTransport in `transport`
    own: list[Item] = field(default_factory=list)  # to be written on this one alone
    written: list[Any] = field(default_factory=list)
    seen: int = 0  # packets looked at
    groups: int = 0  # writes looked at
    buffered: int = 0  # bytes that its peer has not read
    drained: int = 0  # bytes that it read too late: the channel counts them until it has ended
    due: Any = None  # of a poll: its end
    grace: float = 0.0  # of a poll: when its session's Ajax grace had ended without it
    is_news: bool = False  # of a poll: the first that its session shows of Ajax
    is_coming: bool = True  # the channel is at it
    is_broken: bool = False  # takes nothing, and nobody has noticed
    is_closing: bool = False  # by the channel
    owed: list[Item] = field(default_factory=list)  # what has to be written before
    code: int = 0  # it was closed with that
    is_cut: bool = False
    is_one_too_many: bool = False  # closed since newer ones displaced it and each other
    has_ended: bool = False
    gaps: int = 0  # of its session when it opened
    has_gap: bool = False  # a socket: its session was cut since polls displaced it

    @property
    def can_take(self) -> bool:
        return not (self.buffered or self.is_broken or self.is_closing or self.has_ended)


@dataclass(slots=True, eq=False)
class Session:
    """One client-id of one user."""

    uid: Any
    client_id: str
    box: list[Item] = field(default_factory=list)  # what waits, for whichever is the newest
    current: Line | None = None
    ws: Line | None = None  # the newest socket that is open
    poll: Line | None = None  # the newest that is parked
    displaced: list[Line] = field(default_factory=list)
    grace: dict[str, Any] = field(default_factory=dict)  # kind -> timer
    shown: set[str] = field(default_factory=set)  # in presence, by kind
    was_answered: bool = False
    has_gap: bool = False  # cut since its last Ajax handshake
    # replies that went along with the one that was displaced last, and took nothing
    moved: tuple[Line | None, list[Item]] = (None, [])
    is_shaking_hands: bool = False  # over Ajax: the channel is at it
    gaps: int = 0  # how often events of it were lost

    @property
    def is_here(self) -> bool:
        return bool(self.ws or self.poll or self.grace)

    @property
    def member(self) -> Any:
        return ANONYMOUS if self.uid is None else self.uid

    @property
    def lines(self) -> list[Line]:
        return [line for line in (self.ws, self.poll, *self.displaced) if line is not None]

    @property
    def states(self) -> tuple[str, str, str]:
        """Its states in SOCKET, POLLS, and SESSION of docs/sessions.md."""
        if self.ws or self.poll:
            life = "CONNECTED"
        elif self.is_here:
            life = "AWAY"
        else:
            life = "GONE" if self.displaced else "FORGOTTEN"
        return self.socket_state, self.polls_state, life

    @property
    def socket_state(self) -> str:
        if self.ws is None:
            return "GRACE" if "ws" in self.grace else "NONE"
        if self.ws.is_cut:
            return "CUT"
        if self.ws is self.current:
            return "CURRENT"
        return "BEHIND" if self.ws.has_gap else "DISPLACED"

    @property
    def polls_state(self) -> str:
        if self.poll is not None:
            return "CUT" if self.poll.is_cut else "PARKED"
        if "ajax" not in self.grace:
            return "NONE"
        if self.was_answered:
            return "ANSWERED"
        return "GRACE" if "ajax" in self.shown else "HANDSHAKEN"


class Model:
    """The channel as it should be. `later(seconds, call)` and `soon(call)` are the loop's."""

    def __init__(
        self,
        config: Config,
        now: Callable[[], float],
        later: Callable[..., Any],
        soon: Callable[..., Any],
    ) -> None:
        self.config, self.now, self.call_later, self.soon = config, now, later, soon
        self.timers: dict[Any, Callable[[], None]] = {}
        self.sessions: dict[tuple[Any, str], Session] = {}
        self.lines: list[Line] = []
        self.presence: dict[str, set[Any]] = {"ws": set(), "ajax": set(), "any": set()}
        self.told: dict[Any, list[str]] = {}
        self.sent = self.written = self.replaced = self.nobody = self.cut = self.reply_lost = 0
        self.lost = {"too_slow": 0, "budget": 0, "grace": 0, "stopped": 0, "moved": 0, "missed": 0}
        self.closed_by_code: dict[int, int] = {}
        self.is_stopped = False
        self.being_closed: list[Session] = []  # the channel is at it, in an order of its own
        self.emptied: deque[list[Item]] = deque(maxlen=20)  # what was lost to the budget

    # -- time

    def later(self, seconds: float, call: Callable[..., None], *args: Any) -> Any:
        def due() -> None:
            del self.timers[timer]
            call(*args)

        timer = self.call_later(seconds, due)
        self.timers[timer] = due
        return timer

    def catch_up(self) -> None:
        """Do what is due now: the channel is at that too, in an order of its own."""
        for timer, due in sorted(self.timers.items(), key=lambda item: item[0].when()):
            if timer.cancelled():
                self.timers.pop(timer, None)
            elif timer.when() < self.now() + SLACK:
                timer.cancel()
                due()

    # -- who is meant

    def session(self, uid: Any, client_id: str) -> Session:
        return self.sessions.setdefault((uid, client_id), Session(uid, client_id))

    def meant(self, to: Any) -> Iterator[Session]:
        """All sessions that `to` names, gone ones too if a socket of theirs is left."""
        for session in list(self.sessions.values()):
            if to is ALL or to == (
                ClientTarget(session.uid, session.client_id)
                if isinstance(to, ClientTarget)
                else session.member
            ):
                yield session

    # -- connections come

    def is_full(self, uid: Any, client_id: str) -> bool:
        """Whether the client has so many displaced connections that no other may come."""
        return len(self.session(uid, client_id).displaced) >= 2 * MAX_DISPLACED

    def open_ws(self, uid: Any, client_id: str) -> Line:
        self.observe()
        session = self.session(uid, client_id)
        self.displace(session)
        line = session.ws = session.current = Line("ws", session, gaps=session.gaps)
        self.lines.append(line)
        self.end_grace(session, "ws")
        self.show(session, "ws")
        self.close_oldest(session)
        return line

    def handshake(self, uid: Any, client_id: str) -> None:
        self.observe()
        session = self.session(uid, client_id)
        if session.was_answered:  # what the last poll got may not have arrived
            session.was_answered = False
            self.cut += 1
        session.has_gap = False
        session.is_shaking_hands = True
        if session.poll is None:
            self.start_grace(session, "ajax")
        if session.current is not None and session.current is session.ws:
            self.displace(session)  # the client has given it up
            self.close_oldest(session)

    def handshaken(self, uid: Any, client_id: str) -> None:
        """The channel has answered the handshake."""
        if (uid, client_id) in self.sessions:
            self.sessions[uid, client_id].is_shaking_hands = False

    def park(self, uid: Any, client_id: str) -> Line | str:
        """A poll comes; if it is not parked: what it is answered."""
        self.observe()
        if self.is_full(uid, client_id):
            return "503"
        session = self.session(uid, client_id)
        if session.poll is None and "ajax" not in session.grace:
            self.handshake(uid, client_id)
            return "handshake"
        if session.has_gap:
            return "503"
        session.was_answered = False
        self.displace(session)
        line = session.poll = session.current = Line("ajax", session)
        line.own, session.box = session.box, []  # answers it at once
        self.lines.append(line)
        line.due = self.later(self.config.poll_timeout, self.poll_due, line)
        if "ajax" in session.grace:
            line.grace = session.grace["ajax"].when()
        self.end_grace(session, "ajax")
        line.is_news = "ajax" not in session.shown
        self.show(session, "ajax")
        self.close_oldest(session)
        return line

    def refused(self, line: Line) -> None:
        """A poll was not parked: while it came, its session was cut."""
        session = line.session
        assert session.has_gap and line.is_cut and not line.own
        line.has_ended = True
        line.due.cancel()
        session.poll = None
        self.start_grace(session, "ajax", line.grace - self.now())
        if line.is_news:
            told = list(self.told.get(session.member, ()))
            session.shown.remove("ajax")
            self.recount(session.member)
            if told != self.told.get(session.member, []):  # neither came nor went
                self.told[session.member] = told[:-1]

    def displace(self, session: Session) -> None:
        """Pushes go to the newest; the former stays open, with what was for it alone."""
        old, session.current = session.current, None
        session.moved = None, []
        if old is None:
            return
        if old.kind == "ws":
            goes = list(session.box) if old.can_take else replies(session.box)
            if not old.can_take:
                session.moved = old, goes
            old.own += goes
            session.box = [item for item in session.box if item not in goes]
        else:
            session.poll = None
            self.start_grace(session, "ajax")
        session.displaced.append(old)

    def close_oldest(self, session: Session) -> None:
        """Close the oldest of those displaced if there are too many."""
        still_open = [line for line in session.displaced if not line.is_one_too_many]
        if len(still_open) > MAX_DISPLACED:
            still_open[0].is_one_too_many = True
            self.close(still_open[0], 1008)

    # -- connections go

    def ended(self, line: Line, code: int) -> None:
        """A socket or poll is closed, and the channel knows."""
        if line.has_ended:
            return
        self.observe()
        line.has_ended = True
        if line.due is not None:
            line.due.cancel()
        session = line.session
        late = [item for item in line.owed if item in line.own]
        assert not late, f"expected {late} to be written before the close"
        assert not events(line.own), f"expected {line.own} to be written"
        self.reply_lost += len(line.own)
        line.own = []
        if line in session.displaced:
            session.displaced.remove(line)
        if session.current is line:
            session.current = None
            self.reply_lost += len(replies(session.box))
            session.box = events(session.box)
        if line.kind == "ws":
            self.closed_by_code[code] = self.closed_by_code.get(code, 0) + 1
            self.cut += code == 1006
        if session.ws is line:
            session.ws = None
            self.start_grace(session, "ws")
        elif session.poll is line:
            session.poll = None
            self.start_grace(session, "ajax")
        self.settle(session)

    def poll_answered(self, line: Line) -> None:
        line.has_ended = True
        line.due.cancel()
        session = line.session
        if session.poll is line:
            session.poll = None
            self.start_grace(session, "ajax")
        if session.current is line:
            session.current = None
        if line in session.displaced:
            session.displaced.remove(line)
        self.settle(session)

    def poll_due(self, line: Line) -> None:
        """`[:chsk/timeout nil]`"""
        if not line.has_ended:
            self.poll_answered(line)

    def start_grace(self, session: Session, kind: str, left: float | None = None) -> None:
        self.end_grace(session, kind)
        seconds = self.config.grace_ws if kind == "ws" else self.config.grace_ajax
        seconds = seconds if left is None else left
        session.grace[kind] = self.later(seconds, self.grace_over, session, kind)

    def end_grace(self, session: Session, kind: str) -> None:
        timer = session.grace.pop(kind, None)
        if timer is not None:
            timer.cancel()

    def grace_over(self, session: Session, kind: str) -> None:
        if self.is_stopped or kind not in session.grace:
            return
        del session.grace[kind]
        if kind == "ajax":
            self.cut += session.was_answered
            session.was_answered = False
        if kind in session.shown:
            session.shown.remove(kind)
            self.recount(session.member)
        is_open = session.ws is not None and not session.ws.is_cut
        if kind == "ajax" and is_open and session.current is None:
            # The polls that displaced this socket are gone, so it is the newest again.
            if session.ws.has_gap:
                self.close(session.ws, 1013)  # else it had a gap
            else:
                self.reinstate(session, session.ws)
        self.settle(session)

    def reinstate(self, session: Session, line: Line) -> None:
        session.current = line
        if line in session.displaced:
            session.displaced.remove(line)
        session.box = line.own + session.box
        line.own = []
        self.limit(session.box, line, session)

    def settle(self, session: Session) -> None:
        """Forget a session that is gone; what waits for it is lost."""
        if session.is_here:
            return
        self.lost["grace"] += len(events(session.box))
        session.box = []
        key = session.uid, session.client_id
        if not session.displaced and self.sessions.get(key) is session:
            del self.sessions[key]

    # -- presence

    def show(self, session: Session, kind: str) -> None:
        if kind not in session.shown:
            session.shown.add(kind)
            self.recount(session.member)

    def recount(self, member: Any) -> None:
        shown = {
            kind for session in self.sessions.values() if session.member == member
            for kind in session.shown
        }  # fmt: skip
        was_any = member in self.presence["any"]
        for kind, members in self.presence.items():
            if kind in shown or (kind == "any" and shown):
                members.add(member)
            else:
                members.discard(member)
        if was_any != bool(shown):
            self.told.setdefault(member, []).append("open" if shown else "close")

    # -- pushes and replies

    def send(self, to: Any, data: Any, size: int, key: str | None) -> None:
        self.observe()
        event = object()
        found = [session for session in self.meant(to) if session.is_here]
        self.nobody += not found
        for session in found:
            self.sent += 1
            for older in session.box:
                if key is not None and older.key == key:
                    session.box.remove(older)
                    self.replaced += 1
                    break
            item = Item(data, size + AROUND_EVENT, event, key, self.now())
            session.box.append(item)
            self.limit(session.box, session.current, session)

    def reply(self, line: Line, value: Any, size: int) -> bool:
        """Answer on the socket that asked, or on its session's newest; else it is lost.

        After the stop it is lost by itself: nothing more is put behind what waits.
        """
        self.observe()
        if self.is_stopped:
            self.reply_lost += 1
            return False
        session = line.session
        if line.has_ended or line.is_cut:
            line = session.ws  # type: ignore[assignment]
        if line is None or line.has_ended or line.is_cut:
            self.reply_lost += 1
            return False
        box = session.box if session.current is line else line.own
        box.append(Item(value, size + AROUND_REPLY, None, since=self.now()))
        self.limit(box, line, session)
        return True

    def limit(self, box: list[Item], line: Line | None, session: Session) -> None:
        """Past the limits all that waits is lost, and the socket closed; not if it can take it."""
        if line is not None and line.can_take:
            return
        size = sum(item.size for item in box) + (line.buffered if line is not None else 0)
        if size > self.config.max_backlog_bytes or len(box) > self.config.max_backlog_events:
            self.lose(box, len(events(box)), "too_slow", line, session)

    def lose(
        self, box: list[Item], count: int, reason: str, line: Line | None, session: Session
    ) -> None:
        self.lost[reason] += count
        self.reply_lost += len(replies(box))
        box[:] = events(box)[count:]
        if box is session.box:
            session.has_gap = True
            if session.ws is not None and session.ws is not session.current:
                session.ws.has_gap = True
        session.gaps += count > 0
        if line is None:
            return
        line.is_cut = True
        if session.current is line:
            session.current = None
        if line.kind == "ws":  # a poll that took nothing has broken: its edge will tell
            self.close(line, 1013)

    def was_over_budget(self, uid: Any, client_id: str, count: int) -> None:
        """Told by the log: to cut this session freed the most; `count` events of it are lost."""
        self.observe()
        session = self.sessions[uid, client_id]
        line = session.current
        if session.is_shaking_hands if line is None else line.is_coming:
            # The newest is just coming, and has had nothing yet: what is lost is of the one before.
            old, moved = session.moved
            if old is not None:
                old.own = [item for item in old.own if item not in moved]
            session.box = moved + session.box
            session.moved = None, []
        if line is not None and line.is_coming:
            session.box = line.own + session.box
            line.own = []
            line.gaps += count > 0
        came_later = len(events(session.box)) - count  # this send's, if others had it first
        assert came_later in (0, 1)
        self.check_budget(session.box[: len(session.box) - came_later])
        if line is not None and line.kind == "ws" and line.is_coming:
            line = None
        elif line is not None and line.kind == "ws" and line.peer.transport.closed_with is None:
            line.code = 1013  # though another close of it may be under way
        self.lose(session.box, count, "budget", line, session)

    def check_budget(self, cut: list[Item]) -> None:
        """Check that so much waited that this had to be cut, and none that frees twice as much."""
        room = max(0, self.config.max_total_backlog_bytes - self.buffered())
        most = taken_by((box for _, box in self.boxes()), are_shared=False)
        assert most > room - room // 32, f"expected no cut, got one at {most} of {room}"
        self.emptied.append(cut)
        size = sum(item.size for item in cut)
        unsure = {id(session.box) for session in self.being_closed}
        for other, box in self.boxes():
            # Of one that broke the channel does not know that it takes nothing.
            is_known = other is None or (other.buffered and not other.is_broken)
            if is_known and id(box) not in unsure:
                others = [*self.emptied, *(each for _, each in self.boxes() if each is not box)]
                shared = {item.event for each in others for item in each if item.is_event}
                # The last may be of a send that has not reached it yet.
                alone = sum(item.size for item in box[:-1] if item.event not in shared)
                assert alone < 2 * size, f"expected {alone} to go, got {size}"

    def displaced_was_over_budget(self, line: Line) -> None:
        """Told by the log: to cut this displaced socket freed the most."""
        self.observe()
        self.emptied.append(line.own)
        if line.peer.transport.closed_with is None:
            line.code = 1013  # though another close of it may be under way
        self.lose(line.own, 0, "budget", line, line.session)

    # -- closing from the channel's side

    def disconnect(self, to: Any, code: int) -> None:
        self.observe()
        self.being_closed = list(self.meant(to))
        for session in self.being_closed:
            for line in session.lines:
                self.close(line, code)

    def disconnected(self) -> None:
        """The channel has closed all that it should."""
        self.being_closed = []

    def close(self, line: Line, code: int) -> None:
        """What waits is written first, where that can be done."""
        if line.has_ended or line.is_closing:
            return
        session = line.session
        if line.can_take:
            if session.current is line:
                line.own += session.box
                session.box = []
            line.owed = list(line.own)
        was_open = not line.is_broken
        line.is_closing = True
        line.code = code
        if line.kind == "ajax":
            if not line.own:
                self.ended(line, code)  # 503
        elif was_open:
            self.soon(lambda: self.ended(line, line.code))  # the peer's close frame takes a turn

    def stop(self) -> None:
        self.observe()
        self.being_closed = list(self.sessions.values())
        for session in self.being_closed:
            for line in session.lines:
                self.close(line, 1012)
        self.is_stopped = True

    def stopped(self) -> None:
        """After the stop: what nobody took is lost."""
        self.observe()
        self.being_closed = []
        for session in self.sessions.values():
            self.lost["stopped"] += len(events(session.box))
            session.box = []

    # -- what the channel did

    def observe(self) -> None:
        """Look at all that was written since the last look."""
        for line in self.lines:
            if line.peer is not None:
                self.observe_line(line)
        self.lines = [line for line in self.lines if not line.has_ended]

    def observe_line(self, line: Line) -> None:
        transport = line.peer.transport
        while line.groups < len(transport.writes):
            count = transport.writes[line.groups]
            line.groups += 1
            assert not line.buffered or self.is_stopped, "wrote to one that has a backlog"
            assert not line.is_broken, "wrote to one that takes nothing"
            for packet in transport.written[line.seen : line.seen + count]:
                self.observe_packet(line, *line.peer.unpack(packet))
                if transport.is_slow:
                    line.buffered += len(packet)
            line.seen += count

    def observe_packet(self, line: Line, value: Any, cb_id: Any) -> None:
        is_first = not line.written
        line.written.append(value)
        if line.kind == "ws" and is_first:
            assert value[0] == "chsk/handshake"
            return
        if value == "chsk/timeout" and line.kind == "ajax":
            assert abs(self.now() - line.due.when()) < SLACK, "a poll ended at another time"
            self.poll_answered(line)
            return
        if cb_id is not None:
            item = self.take_next(line)
            assert (item.is_event, item.value) == (False, value)
            return
        box = line.own or line.session.box
        got = [data for _, data in value]
        for data in got:
            item = self.take_next(line)
            assert (item.is_event, item.value) == (True, data), f"expected {item}, got {got}"
            assert line.kind == "ajax" or line.gaps == line.session.gaps, "a gap in a connection"
            self.written += 1
        if line.kind == "ajax":
            assert not box, "a poll's answer takes all that waits"
            line.session.was_answered = True
            self.poll_answered(line)

    def take_next(self, line: Line) -> Item:
        session = line.session
        box = line.own or (session.box if session.current is line else [])
        assert box, f"wrote what was not for it, or twice: {line.written[-1]}"
        return box.pop(0)

    def has_read(self, line: Line) -> None:
        """Its peer has read all that was written."""
        self.observe()
        if line.is_broken or line.is_closing:
            line.drained += line.buffered
        line.buffered = 0

    # -- what must be so

    def boxes(self) -> Iterator[tuple[Line | None, list[Item]]]:
        """All that waits, and for whom, if there is somebody."""
        yield from ((line, line.own) for line in self.lines)
        yield from ((session.current, session.box) for session in self.sessions.values())

    @property
    def waiting(self) -> int:
        """Events that wait."""
        return sum(len(events(box)) for _, box in self.boxes())

    def waiting_bytes(self) -> tuple[int, int]:
        """What waits for those who cannot be written to, between turns: at least, at most.

        Of one that takes nothing any more the channel learns when it writes to it.
        """
        sure: list[list[Item]] = []
        unsure: list[list[Item]] = []
        least = most = 0
        for line in self.lines:
            most += line.buffered + line.drained
            if not (line.is_broken or line.is_closing):
                least += line.buffered
        for line, box in self.boxes():
            if line is not None and (line.is_broken or line.is_closing):
                unsure.append(box)
            elif line is None or not line.can_take:
                sure.append(box)
        return (
            least + taken_by(sure, are_shared=True),
            most + taken_by([*sure, *unsure], are_shared=False),
        )

    def buffered(self) -> int:
        """Bytes that the transports of open sockets hold."""
        return sum(line.buffered + line.drained for line in self.lines)

    def check_written(self) -> None:
        """Between turns nothing waits for who can be written to, but for the flush delay."""
        config = self.config
        for line, box in self.boxes():
            if line is not None and line.can_take:
                delay = config.flush_delay_ws if line.kind == "ws" else config.flush_delay_ajax
                for item in box:
                    assert delay and item.since + delay > self.now() - SLACK, f"{item} waits"


def taken_by(boxes: Iterable[list[Item]], *, are_shared: bool) -> int:
    """Return the memory for what waits: an event counts once, and a node for each history.

    Two that stand in the same history share its nodes, or at least may.
    """
    size = 0
    events: set[object] = set()
    histories: set[tuple[object, ...]] = set()
    for number, box in enumerate(boxes):
        size += AROUND_BOX if box else 0
        history: tuple[object, ...] = () if are_shared else (number,)
        for item in box:
            history = (*history, item.event or item)
            if history not in histories:
                size += AROUND_NODE
                histories.add(history)
            if not item.is_event or item.event not in events:
                size += item.size - AROUND_NODE
                events.add(item.event)
    return size


def events(items: list[Item]) -> list[Item]:
    return [item for item in items if item.is_event]


def replies(items: list[Item]) -> list[Item]:
    return [item for item in items if not item.is_event]
