"""A channel driven by chance against the model of tests/support/model.py.

Steps follow each other within one turn of the loop until a step ends it, so that what
happens together meets in every order. Always the same steps, unless MODEL_MINUTES says for
how long to go on by chance (`ci/fuzz.sh model 60`, under sanitizers).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from model import Line, Model

from chansock import ALL, ANONYMOUS, LATER, ChannelSocket, Config, HandshakeRefused
from chansock._core import log_limit
from chansock._core.endpoint import Admission
from chansock._fast.events.dispatch import Connection
from chansock.packers import EDN
from chansock.request import Response
from chansock.target import ClientTarget
from chansock.testing import AjaxClient, PendingReply, Poll, World, WsClient, user_id
from chansock.values import Keyword

LOG = logging.getLogger("chansock")
PACKER = EDN()
UIDS = ["a", "b", None]
CLIENT_IDS = ["1", "2"]

# No two of these times, nor sums of a few, meet: what is due at once has no order.
GRACES = [(2.503, 5.0107), (0.0113, 0.0237)]  # ws, ajax
POLL_TIMEOUT = 20.0291
PING_INTERVAL = 1e6  # never, among these
FLUSH_DELAYS = [0.0, 0.1003]
WAITS = [0.0, 0.371, 3.1013]
SECONDS = [0.05, 0.7, 2.0, 4.0, 9.0, 30.0]

KEYS = st.tuples(st.sampled_from(UIDS), st.sampled_from(CLIENT_IDS))
TARGETS = st.one_of(
    st.sampled_from(["a", "b", ALL, ANONYMOUS]), KEYS.map(lambda key: ClientTarget(*key))
)
NUMBERS = st.integers(0, 50)
KINDS = st.sampled_from(["echo", "wait", "together", "later", "push", "kick", "fail"])


class Peer:
    """What the model sees of a connection: a transport, and what its packets say."""

    def __init__(self, client: WsClient | AjaxClient, held: WsClient | Poll, line: Line) -> None:
        self.client = client
        self.held = held
        self.transport = held.transport
        self.connection = held.connection
        self.line = line
        self.order: list[int] = []  # of its events, those that no handler has begun

    @staticmethod
    def unpack(packet: bytes) -> tuple[Any, Any]:
        return PACKER.unpack(memoryview(packet))


class PollingClient(AjaxClient):
    """Shows a poll to the model before the channel is asked."""

    line: Line | str = ""  # of the next poll; or what it is answered

    def _open(self, poll: Poll, admitted: Admission | Response) -> None:
        if isinstance(self.line, Line):
            self.line.peer, self.line = Peer(self, poll, self.line), ""
        super()._open(poll, admitted)


class Ask:
    """An event that a client sent, and what became of it."""

    def __init__(self, line: Line | None, order: list[int] | None, wants_reply: bool) -> None:
        self.line = line  # None: a POST
        self.order = order  # those of its socket that are to come, if their order is known
        self.wants_reply = wants_reply
        self.client: AjaxClient | None = None  # of a POST
        self.is_dropped = False
        self.reply: PendingReply | None = None
        self.is_begun = False
        self.value: Any = None  # what a POST has to be answered with


class Log(logging.Handler):
    """Passes the sessions that the channel chose to cut to the model, and keeps what went wrong."""

    def __init__(
        self,
        model: Model,
        faults: list[BaseException],
        line_of: Callable[[Connection], Line],
    ) -> None:
        super().__init__()
        self.model = model
        self.faults = faults
        self.line_of = line_of

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] and not isinstance(record.exc_info[1], Meant):
            self.faults.append(record.exc_info[1])
        elif str(record.msg).startswith("session_cut"):
            reason, count, session = record.args  # type: ignore[misc]
            if reason == "budget":
                self.model.was_over_budget(session.uid, session.client_id, count)
        elif str(record.msg).startswith("displaced_cut"):
            reason, outbox = record.args  # type: ignore[misc]
            if reason == "budget":
                self.model.displaced_was_over_budget(self.line_of(outbox.connection))


class Meant(Exception):
    """What a handler raises that shall fail."""


class Channel(RuleBasedStateMachine):
    """Each step tells the model, then does the same to the channel."""

    world: World | None = None

    @initialize(
        limits=st.sampled_from(
            [
                {},
                {"max_backlog_events": 3},
                {"max_backlog_bytes": 800},
                {"max_backlog_events": 4, "max_backlog_bytes": 700},
                {"max_total_backlog_bytes": 1500},
                {"max_total_backlog_bytes": 600},
            ]
        ),
        delay_ws=st.sampled_from(FLUSH_DELAYS),
        delay_ajax=st.sampled_from(FLUSH_DELAYS),
        graces=st.sampled_from(GRACES),
        max_inbox_events=st.sampled_from([2, 32]),
        greets=st.booleans(),
        ends_by_stop=st.booleans(),
    )
    def start(
        self,
        limits: dict[str, int],
        delay_ws: float,
        delay_ajax: float,
        graces: tuple[float, float],
        max_inbox_events: int,
        greets: bool,
        ends_by_stop: bool,
    ) -> None:
        config = Config(
            grace_ws=graces[0],
            grace_ajax=graces[1],
            poll_timeout=POLL_TIMEOUT,
            flush_delay_ws=delay_ws,
            flush_delay_ajax=delay_ajax,
            ws_ping_interval=PING_INTERVAL,
            max_inbox_events=max_inbox_events,
            **limits,
        )
        self.has_budget = "max_total_backlog_bytes" in limits
        self.greets, self.ends_by_stop = greets, ends_by_stop
        self.chsk = ChannelSocket(config, user_id=user_id)
        self.heard: dict[Any, list[str]] = {}
        self.count = 0
        self.peers: list[Peer] = []  # sockets
        self.polls: list[Peer] = []
        self.ajax: dict[Any, PollingClient] = {}
        self.asks: list[Ask] = []
        self.later: list[tuple[Any, Ask]] = []
        for name in ("echo", "later", "push", "kick", "fail"):
            self.chsk.on(f"t/{name}", getattr(self, f"handle_{name}"))
        self.chsk.on("t/wait", self.handle_wait)
        self.chsk.on("t/together", self.handle_wait, parallel=True)
        self.chsk.on("chsk/uidport-open", self.handle_open)
        self.chsk.on("chsk/uidport-close", self.handle_close)
        world = World(self.chsk, raise_handler_errors=False)
        world.__enter__()
        self.world = world
        self.model = Model(config, world.loop.time, world.loop.call_later, world.loop.call_soon)
        self.faults: list[BaseException] = []
        world.loop.set_exception_handler(
            lambda _, context: self.faults.append(
                context.get("exception") or RuntimeError(context["message"])
            )
        )
        self.log = Log(
            self.model,
            self.faults,
            lambda connection: next(
                peer.line for peer in self.peers if peer.connection is connection
            ),
        )
        LOG.addHandler(self.log)
        self.burst, log_limit.BURST = log_limit.BURST, 1 << 30  # the model hears of every cut
        self.is_quiet = True

    # -- the application

    def begin(self, msg: Any) -> Ask:
        ask = self.asks[msg.data[0]]
        assert not ask.is_begun, "an event was handled twice"
        ask.is_begun = True
        if ask.order is not None:
            assert ask.order.pop(0) == msg.data[0], "events were handled out of order"
        return ask

    def answer(self, ask: Ask, value: Any) -> Any:
        """Pass the reply that is about to be given to the model, and return it."""
        if not ask.wants_reply:
            return value
        if ask.line is not None:
            size = len(PACKER.packet(value, "000000"))
            self.given = self.model.reply(ask.line, value, size)
        else:
            is_open = ask.reply is None or ask.reply.status is None
            self.given = is_open and not ask.is_dropped
            if self.given:
                ask.value = value
            else:
                self.model.reply_lost += 1
        return value

    def handle_echo(self, msg: Any) -> Any:
        ask = self.begin(msg)
        return self.answer(ask, msg.data)

    async def handle_wait(self, msg: Any) -> Any:
        ask = self.begin(msg)
        await asyncio.sleep(WAITS[msg.data[1] % len(WAITS)])
        return self.answer(ask, msg.data)

    def handle_later(self, msg: Any) -> Any:
        self.later.append((msg, self.begin(msg)))
        return LATER

    def handle_push(self, msg: Any) -> Any:
        ask = self.begin(msg)
        self.push(msg.client, flush=bool(msg.data[1] % 2))
        return self.answer(ask, msg.data)

    def handle_kick(self, msg: Any) -> Any:
        ask = self.begin(msg)
        if self.chsk.is_started:
            self.disconnect(msg.client, 4000)
        return self.answer(ask, msg.data)

    def handle_fail(self, msg: Any) -> Any:
        self.answer(self.begin(msg), Keyword("chsk/error"))
        raise Meant

    def handle_open(self, msg: Any) -> None:
        self.heard.setdefault(msg.data, []).append("open")
        if self.greets:
            self.push(ALL)

    def handle_close(self, msg: Any) -> None:
        self.heard.setdefault(msg.data, []).append("close")

    def push(self, to: Any, key: str | None = None, flush: bool = False, length: int = 0) -> None:
        if not self.chsk.is_started:
            return
        self.count += 1
        data = [self.count, "x" * length] if length else self.count
        if self.has_budget:
            key = None  # who is cut before the newer one has come would keep the older
        self.model.send(to, data, len(PACKER.fragment((Keyword("t/e"), data))), key)
        self.chsk.send(to, "t/e", data, latest=key, flush=flush)

    # -- steps of clients

    @rule(key=KEYS)
    def open(self, key: tuple[Any, str]) -> None:
        uid, client_id = key
        if self.model.is_full(uid, client_id):
            with pytest.raises(HandshakeRefused):
                self.world.ws(uid, client_id=client_id)
            return
        line = self.model.open_ws(uid, client_id)
        client = self.world.ws(uid, client_id=client_id)
        line.is_coming = False
        peer = line.peer = Peer(client, client, line)
        self.peers.append(peer)
        close = client.transport.on_close
        client.transport.on_close = lambda: (
            self.model.catch_up(), self.model.observe(), close()
        )  # fmt: skip

    @rule(key=KEYS, count=st.integers(2, 10))
    def open_many(self, key: tuple[Any, str], count: int) -> None:
        """Each displaces the one before, and the oldest are closed."""
        for _ in range(count):
            self.open(key)

    def ajax_client(self, key: tuple[Any, str]) -> PollingClient:
        uid, client_id = key
        if key not in self.ajax:
            self.ajax[key] = PollingClient(self.world, client_id, (), (), uid)
        return self.ajax[key]

    @rule(key=KEYS)
    def shake_hands(self, key: tuple[Any, str]) -> None:
        if self.model.is_full(*key):
            return
        self.model.handshake(*key)
        self.ajax_client(key).shake_hands()
        self.model.handshaken(*key)

    @rule(key=KEYS)
    def poll(self, key: tuple[Any, str]) -> None:
        client = self.ajax_client(key)
        line = client.line = self.model.park(*key)
        poll = client.poll()
        if isinstance(line, str):
            self.model.handshaken(*key)
            assert line == "503" if poll.status == 503 else poll.value[0] == f"chsk/{line}"
            return
        line.is_coming = False
        if poll.status == 503:
            self.model.refused(line)
            return
        self.polls.append(line.peer)
        arrive = poll.transport.on_arrival
        poll.transport.on_arrival = lambda: (self.model.observe(), arrive())

    @rule(key=KEYS)
    def shake_hands_and_poll(self, key: tuple[Any, str]) -> None:
        self.shake_hands(key)
        self.poll(key)

    def of(self, peers: list[Peer], number: int) -> Peer:
        return peers[number % len(peers)]

    def live(self, peers: list[Peer]) -> list[Peer]:
        peers[:] = [peer for peer in peers if peer.held.connection and not peer.line.has_ended]
        return peers

    def has_socket(self) -> bool:
        return bool(self.live(self.peers))

    def has_poll(self) -> bool:
        return bool(self.live(self.polls))

    @precondition(has_socket)
    @rule(number=NUMBERS, code=st.sampled_from([1000, 1001, 1006]))
    def close(self, number: int, code: int) -> None:
        peer = self.of(self.peers, number)
        self.model.ended(peer.line, code)
        peer.client._end(code)

    @precondition(has_poll)
    @rule(number=NUMBERS)
    def drop(self, number: int) -> None:
        self.end_poll(self.of(self.polls, number))

    def end_poll(self, peer: Peer) -> None:
        self.model.ended(peer.line, 1006)
        connection, peer.held.connection = peer.held.connection, None
        peer.transport.is_open = False
        self.world.inside(lambda: self.world._endpoint.closed(connection, 1006))

    @rule(key=KEYS)
    def leave_page(self, key: tuple[Any, str]) -> None:
        """All polls and POSTs of an Ajax client break."""
        client = self.ajax_client(key)
        for ask in self.asks:
            if ask.client is client and ask.reply is not None and ask.reply.status is None:
                ask.is_dropped = True
        for peer in self.live(self.polls):
            if peer.client is client:
                self.end_poll(peer)
        client.drop()

    @rule(key=KEYS, count=st.integers(0, 5))
    def poll_and_leave(self, key: tuple[Any, str], count: int) -> None:
        """Its socket, if it has one, is the newest again after grace; until then events wait."""
        self.shake_hands_and_poll(key)
        self.leave_page(key)
        for _ in range(count):
            self.push(ClientTarget(*key))

    @rule(key=KEYS, count=st.integers(1, 6))
    def stall(self, key: tuple[Any, str], count: int) -> None:
        """Its newest socket takes no more, and events come: too much may wait for it."""
        self.open(key)
        if self.model.is_full(*key) or not self.live(self.peers):
            return
        self.compare()
        self.peers[-1].transport.is_slow = True
        for _ in range(count):
            self.push(ClientTarget(*key))
            self.turn()
            self.compare()

    @rule(key=KEYS, count=st.integers(1, 6))
    def stall_and_poll(self, key: tuple[Any, str], count: int) -> None:
        """Polls displace a socket that takes no more, and replies come for it."""
        self.stall(key, 1)
        self.shake_hands_and_poll(key)
        for _ in range(count):
            if self.live(self.peers):
                self.tell(len(self.peers) - 1, "echo", 0, True)
                self.compare()

    @rule(key=KEYS, count=st.integers(1, 6))
    def poll_and_break(self, key: tuple[Any, str], count: int) -> None:
        """Its poll takes nothing any more, nobody has noticed, and events come."""
        self.shake_hands_and_poll(key)
        if self.live(self.polls):
            self.break_off(self.polls[-1])
        for _ in range(count):
            self.push(ClientTarget(*key))
            self.compare()

    @precondition(has_socket)
    @rule(number=NUMBERS)
    def break_socket(self, number: int) -> None:
        """It takes nothing any more, and its edge does not know yet."""
        self.break_off(self.of(self.peers, number))

    @precondition(has_poll)
    @rule(number=NUMBERS)
    def break_poll(self, number: int) -> None:
        self.break_off(self.of(self.polls, number))

    def break_off(self, peer: Peer) -> None:
        if peer.transport.is_open:
            self.model.observe()
            peer.line.is_broken = True
            peer.transport.is_open = False

    @precondition(has_socket)
    @rule(number=NUMBERS)
    def read_no_more(self, number: int) -> None:
        self.of(self.peers, number).transport.is_slow = True

    @precondition(has_socket)
    @rule(number=NUMBERS, stays_slow=st.booleans())
    def read_again(self, number: int, stays_slow: bool) -> None:
        peer = self.of(self.peers, number)
        self.model.has_read(peer.line)
        if stays_slow:
            peer.transport.drain()
            self.world.inside(lambda: self.world._endpoint.drained(peer.client.connection))
        else:
            peer.client.drain()

    @precondition(has_socket)
    @rule(number=NUMBERS, kind=KINDS, argument=st.integers(0, 5), wants_reply=st.booleans())
    def tell(self, number: int, kind: str, argument: int, wants_reply: bool) -> None:
        peer = self.of(self.peers, number)
        # One that may overlap with what follows need not begin before it.
        ask = self.new_ask(peer.line, None if kind == "together" else peer.order, wants_reply)
        data = [len(self.asks) - 1, argument]
        if wants_reply:
            ask.reply = peer.client.ask(f"t/{kind}", data)
        else:
            peer.client.send(f"t/{kind}", data)

    @rule(key=KEYS, kind=KINDS, argument=st.integers(0, 5), wants_reply=st.booleans())
    def post(self, key: tuple[Any, str], kind: str, argument: int, wants_reply: bool) -> None:
        client = self.ajax_client(key)
        ask = self.new_ask(None, None, wants_reply)
        ask.client = client
        data = [len(self.asks) - 1, argument]
        ask.reply = (client.ask if wants_reply else client.send)(f"t/{kind}", data)

    def new_ask(self, line: Line | None, order: list[int] | None, wants_reply: bool) -> Ask:
        ask = Ask(line, order, wants_reply)
        if order is not None:
            order.append(len(self.asks))
        self.asks.append(ask)
        return ask

    # -- steps of the application

    @rule(
        to=TARGETS,
        key=st.sampled_from([None, None, "k", "l"]),
        flush=st.booleans(),
        length=st.sampled_from([0, 0, 70, 300]),
    )
    def send(self, to: Any, key: str | None, flush: bool, length: int) -> None:
        self.push(to, key, flush, length)

    @rule(to=TARGETS, code=st.sampled_from([1000, 4401]))
    def disconnect(self, to: Any, code: int) -> None:
        self.model.disconnect(to, code)
        self.chsk.disconnect(to, code=code)
        self.model.disconnected()

    @precondition(lambda self: self.later)
    @rule(number=NUMBERS)
    def reply(self, number: int) -> None:
        msg, ask = self.later.pop(number % len(self.later))
        if ask.wants_reply:
            value = self.answer(ask, msg.data)
            assert self.world.inside(lambda: msg.reply(value)) == self.given
        else:
            assert not msg.reply(1)

    # -- time

    @rule()
    def turn(self) -> None:
        self.world.turn()
        self.is_quiet = True

    @rule(seconds=st.sampled_from(SECONDS))
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)
        self.is_quiet = True

    # -- what must be so

    @invariant()
    def agrees(self) -> None:
        if self.world is not None:
            self.compare()

    def compare(self) -> None:
        model, stats = self.model, self.chsk.stats
        model.observe()
        self.no_faults()
        for kind, members in model.presence.items():
            same(f"connected.{kind}", set(getattr(self.chsk.connected, kind)), members)
        same("uidport", self.heard, model.told)
        for name in ("sent", "written", "replaced", "nobody", "cut"):
            same(name, getattr(stats, name), getattr(model, name))
        same("lost", asdict(stats.lost), model.lost)
        lost = sum(model.lost.values())
        same("waiting", stats.sent - stats.written - stats.replaced - lost, model.waiting)
        self.compare_states()
        if self.is_quiet:
            self.is_quiet = False
            same("reply_lost", stats.reply_lost, model.reply_lost)
            same("closed", stats.closed, model.closed_by_code)
            least, most = model.waiting_bytes()
            assert least <= stats.waiting_bytes <= most, (least, stats.waiting_bytes, most)
            budget = self.chsk.config.max_total_backlog_bytes
            assert stats.waiting_bytes <= max(budget, model.buffered())
            model.check_written()
            for ask in self.asks:
                if ask.line is None and ask.value is not None:
                    assert ask.reply is not None
                    same("answer", ask.reply.value, ask.value)

    def compare_states(self) -> None:
        """The states of each session are those of the model, or the channel has forgotten it."""
        core = self.chsk._core
        assert core is not None
        for (uid, client_id), expected in self.model.sessions.items():
            found = core.hub.table.find(uid, client_id)
            if found is None:
                same("session", "FORGOTTEN", expected.states[-1])
                continue
            got = repr(found.socket), repr(found.polls), repr(found.life)
            same(f"states of {found!r}", got, expected.states)
            same(f"has_gap of {found!r}", found.has_gap, expected.has_gap)
            same(f"way of {found!r}", found.current is None, expected.current is None)

    def teardown(self) -> None:
        world = self.world
        if world is None:
            return
        try:
            if self.ends_by_stop:
                self.stop()
            else:
                self.leave()
        finally:
            self.world = None
            world.__exit__(None, None, None)
            LOG.removeHandler(self.log)
            log_limit.BURST = self.burst
        self.compare()

    def no_faults(self) -> None:
        if self.faults:
            raise self.faults[0]

    def leave(self) -> None:
        """Everybody goes, and nothing is left behind."""
        for peer in self.live(self.peers):
            self.model.has_read(peer.line)
            peer.client.drain()
        self.advance(100.0)
        self.compare()
        for peer in self.live(self.peers):
            if not peer.line.is_broken:
                assert peer.client.unread == 0
        for ask in self.asks:
            if ask.line is not None and not ask.line.has_ended:
                assert ask.is_begun
        for peer in list(self.live(self.peers)):
            self.model.ended(peer.line, 1000)
            peer.client.close()
        self.advance(100.0)
        self.compare()
        assert not self.model.sessions
        stats = self.chsk.stats
        assert stats.sent == stats.written + stats.replaced + sum(self.model.lost.values())
        assert stats.waiting_bytes == 0
        core = self.chsk._core
        assert core is not None
        hub = core.hub
        left = (
            len(hub.table),
            hub.connections,
            hub.table.away,
            core.dispatch.posts,
            list(core.fanout),
        )
        same("what is left", left, (0, set(), 0, set(), []))
        self.world.advance(2 * PING_INTERVAL)  # the sweep looks once more and finds nothing
        assert core.delivery.presence_inbox.events == 0
        timers = [timer for timer in self.world.loop._scheduled if not timer.cancelled()]
        same("timers", timers, [])

    def stop(self) -> None:
        self.model.stop()
        self.chsk.stop()
        self.model.stopped()
        self.is_quiet = False
        self.compare()


def same(what: str, got: object, expected: object) -> None:
    assert got == expected, f"{what}: expected {expected}, got {got}"


def run(steps: int, **options: Any) -> None:
    run_state_machine_as_test(
        Channel,
        settings=settings(
            stateful_step_count=steps,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            **options,
        ),
    )


@contextmanager
def unrecorded() -> Iterator[None]:
    """Keep records from pytest, which would hold all of them, and the sessions that they name.

    Not a fixture: pytest adds its handler to each logger that does not propagate by then.
    """
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.propagate = True


@pytest.mark.slow
def test_a_channel_does_what_the_model_says() -> None:
    minutes = float(os.environ.get("MODEL_MINUTES", "0"))
    with unrecorded():
        if not minutes:  # 20,000 steps
            run(50, max_examples=400, derandomize=True)
            return
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            run(100, max_examples=200)
