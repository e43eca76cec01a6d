"""Clients that resume, driven by chance against the model of tests/support/resume_model.py.

Networks are slow and break, clients change their transport, servers stop and start again with
the same engine. Whatever happens, each client gets each kept event once and in order or is told
of a gap, and each of its own events is handled once and in order. Always the same steps, unless
MODEL_MINUTES says for how long to go on by chance.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from resume_model import Ask, Model, Tab, Visit, same

from chansock import ALL, ANONYMOUS, LATER, ChannelSocket, Config, HandshakeRefused
from chansock._core.hub import Hub
from chansock._core.posts import PostOrder
from chansock._core.resume import Resume
from chansock.backplanes import Memory
from chansock.backplanes.memory import AROUND_RECORD
from chansock.errors import ChannelClosed
from chansock.packers import EDN
from chansock.request import Request
from chansock.target import ClientTarget
from chansock.testing import AjaxClient, PendingReply, Poll, World, WsClient, user_id
from chansock.testing.network import Lane
from chansock.testing.resume import Resumption
from chansock.values import Keyword

LOG = logging.getLogger("chansock")
PACKER = EDN()
UIDS = ["a", "b", None]
MAX_TABS = 6
DELAYS = [0.0, 0.0, 0.3, 2.0]
WAITS = [0.0, 0.371, 3.1013]
SECONDS = [0.05, 0.7, 2.0, 4.0, 9.0, 30.0]
LONG = [60.0, 150.0]
ERROR = Keyword("chsk/error")
DIFFER = "event numbers differ"
TIMEOUT = Keyword("chsk/timeout")

KINDS = st.sampled_from(["echo", "wait", "together", "later", "push", "fail", "none"])
NUMBERS = st.integers(0, 50)


class Meant(Exception):
    """What a handler raises that shall fail."""


class Log(logging.Handler):
    """Keeps what went wrong."""

    def __init__(self, faults: list[BaseException]) -> None:
        super().__init__()
        self.faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        if record.exc_info and record.exc_info[1] and not isinstance(record.exc_info[1], Meant):
            self.faults.append(record.exc_info[1])


class Client:
    """Shows its tab which handshake is read."""

    visits: list[Visit]
    resumption: Any
    is_deaf = False  # nothing arrives

    def _told(self, value: Any) -> Any:
        self.resumption.visit = self.visits[value[1][2]]
        return super()._told(value)  # type: ignore[misc]


class Ws(Client, WsClient):
    def _take(self, socket: Any, packet: bytes) -> None:
        if not self.is_deaf:
            super()._take(socket, packet)


class Ajax(Client, AjaxClient):
    """Polls at most so often in one moment."""

    polled = (0.0, 0)

    def _hear(self, call: Callable[[], object], down: Lane) -> None:
        if not self.is_deaf:
            super()._hear(call, down)

    def _open(self, poll: Poll, admitted: Any) -> None:
        now, count = self.polled
        self.polled = self.world.now, count + 1 if now == self.world.now else 0
        if count > 60:
            self.is_polling = False
            last = [(each.status, each.value, each.params) for each in self.polls[-6:]]
            raise AssertionError(f"{self!r} polls for ever: {last}")
        super()._open(poll, admitted)


class Counting(Memory):
    """An engine whose positions are counted by the model, those without an event too."""

    def __init__(self, model: Callable[[], Model]) -> None:
        super().__init__()
        self.model = model

    def mark(self) -> None:
        super().mark()
        self.model().send("nobody at all", 0, is_kept=False, key=None)


class Resuming(RuleBasedStateMachine):
    """Each step tells the model, then does the same to the channel and its clients."""

    world: World | None = None

    @initialize(
        limits=st.sampled_from(
            [
                {},
                {},
                {"keep_events": 3},
                {"keep_seconds": 7.0},
                {"keep_bytes": 3000},
                {"keep_events": 5, "keep_bytes": 6000},
                {"max_backlog_events": 4},
                {"max_inbox_events": 2},
                {"max_backlog_bytes": 2000, "keep_seconds": 7.0},
            ]
        ),
        delay_ajax=st.sampled_from([0.0, 0.1003]),
        hears_pings=st.booleans(),
    )
    def start(self, limits: dict[str, Any], delay_ajax: float, hears_pings: bool) -> None:
        config = Config(flush_delay_ajax=delay_ajax, stop_timeout=2.0, **limits)
        self.engine = Counting(lambda: self.model)
        self.chsk = ChannelSocket(
            config, user_id=user_id, handshake_data=self.handshake_data, backplane=self.engine
        )
        self.visits: list[Visit] = []
        self.later: list[tuple[Any, Ask]] = []
        for name in ("echo", "later", "push", "fail"):
            self.chsk.on(f"t/{name}", getattr(self, f"handle_{name}"))
        self.chsk.on("t/wait", self.handle_wait)
        self.chsk.on("t/together", self.handle_wait, parallel=True)
        if hears_pings:
            self.chsk.on("chsk/ws-ping", self.handle_ping)
        self.faults: list[BaseException] = []
        self.log = Log(self.faults)
        LOG.addHandler(self.log)
        self.clock = 1000.0
        self.model = Model(config, lambda: self.clock if self.world is None else self.world.now)
        self.count = 0
        self.enter()

    def enter(self) -> None:
        world = World(self.chsk, raise_handler_errors=False)
        world.loop._now = world.loop._horizon = self.clock
        world.loop.set_exception_handler(
            lambda _, context: self.faults.append(
                context.get("exception") or RuntimeError(context["message"])
            )
        )
        world.__enter__()
        self.world = world

    def exit(self) -> None:
        world = self.world
        assert world is not None
        world.__exit__(None, None, None)
        self.clock = world.now
        self.world = None

    # -- the application

    def handshake_data(self, request: Request) -> int:
        index = int(request.params["tab"])
        tab = self.hidden if index < 0 else self.model.tabs[index]
        self.visits.append(self.model.visited(tab, request.params["pos"]))
        return len(self.visits) - 1

    def begin(self, msg: Any, is_parallel: bool = False) -> Ask:
        index, number, _ = msg.data
        tab = self.model.tabs[index]
        same("key", msg.key, f"{msg.client_id}-{number}")
        return self.model.begin(tab, number, msg.is_redelivered, is_parallel)

    def handle_echo(self, msg: Any) -> Any:
        ask = self.begin(msg)
        ask.answer.append(msg.data)
        ask.is_finished = True
        return msg.data

    async def handle_wait(self, msg: Any) -> Any:
        ask = self.begin(msg, is_parallel=msg.id == "t/together")
        try:
            await asyncio.sleep(WAITS[msg.data[2] % len(WAITS)])
        except asyncio.CancelledError:
            ask.answer.append(ERROR)
            raise
        else:
            ask.answer.append(msg.data)
            return msg.data
        finally:
            ask.is_finished = True

    def handle_later(self, msg: Any) -> Any:
        ask = self.begin(msg)
        self.later.append((msg, ask))
        ask.is_finished = True
        return LATER

    def handle_push(self, msg: Any) -> Any:
        ask = self.begin(msg)
        if self.chsk.is_started:
            ask.pushed = self.push(msg.client, flush=bool(msg.data[2] % 2))
        ask.answer.append(msg.data)
        ask.is_finished = True
        return msg.data

    def handle_fail(self, msg: Any) -> Any:
        ask = self.begin(msg)
        ask.answer.append(ERROR)
        ask.is_finished = True
        raise Meant

    async def handle_ping(self, msg: Any) -> None:
        await asyncio.sleep(0.2)

    def push(
        self, to: Any, keep: bool = True, key: str | None = None, flush: bool = False,
        length: int = 0,
    ) -> int:  # fmt: skip
        data = [self.model.count + 1, "x" * length]
        size = len(PACKER.fragment((Keyword("t/e"), data)))
        number = self.model.send(to, size, keep, key)
        self.chsk.send(to, "t/e", data, keep=keep, latest=key, flush=flush)
        return number

    # -- steps of clients

    def make(self, tab: Tab) -> None:
        """Put a tab's client of the present world into its place."""
        kind = Ws if tab.kind == "ws" else Ajax
        tab.client = kind(
            self.world, tab.client_id, {"tab": str(tab.index)}, {}, tab.uid, resumes=tab
        )
        tab.client.visits = self.visits

    def connect(self, tab: Tab) -> None:
        if tab.needs_name:
            if tab.is_mute:
                return  # it leaves for good
            self.count += 1
            tab.client_id = f"again-{self.count}"
            tab.needs_name = tab.has_double = False
            tab.was_forgotten = True
            self.forget_clients(tab)
        client = self.clients_of(tab)[tab.kind]
        client.is_lagging = False
        try:
            client.reconnect()
        except HandshakeRefused as refused:
            assert refused.status in (409, 503), refused  # noqa: PT017 - or it is let in

    def clients_of(self, tab: Tab) -> dict[str, Any]:
        """Return the clients of a tab by kind; it keeps each as long as its name and the world."""
        if getattr(tab, "made_for", None) is not self.world:
            tab.clients = {}
            tab.made_for = self.world
        if tab.kind not in tab.clients:
            self.make(tab)
            tab.clients[tab.kind] = tab.client
        tab.client = tab.clients[tab.kind]
        return tab.clients

    def forget_clients(self, tab: Tab) -> None:
        tab.made_for = None

    def leave(self, tab: Tab, how: str) -> None:
        """End its connection."""
        client = tab.client
        if client is None or tab.made_for is not self.world:
            return
        getattr(client, how)()

    @rule(uid=st.sampled_from(UIDS), kind=st.sampled_from(["ws", "ajax"]))
    def come(self, uid: Any, kind: str) -> None:
        if len(self.model.tabs) < MAX_TABS:
            tab = self.model.tab(uid, f"client-{len(self.model.tabs)}")
            tab.kind = kind
            self.connect(tab)

    def has_tab(self) -> bool:
        return bool(self.model.tabs)

    def tab(self, number: int) -> Tab:
        return self.model.tabs[number % len(self.model.tabs)]

    @precondition(has_tab)
    @rule(number=NUMBERS)
    def reconnect(self, number: int) -> None:
        self.connect(self.tab(number))

    @precondition(has_tab)
    @rule(number=NUMBERS, how=st.sampled_from(["cut", "close", "vanish"]))
    def change_transport(self, number: int, how: str) -> None:
        tab = self.tab(number)
        self.leave(tab, how)
        if how == "vanish":
            self.leave(tab, "cut")
        elif tab.client is not None:
            tab.client._down.cut()  # what still comes is not read any more
        if not tab.is_mute:  # two that poll would end each other's polls for ever
            tab.kind = "ajax" if tab.kind == "ws" else "ws"
        self.connect(tab)

    @precondition(has_tab)
    @rule(
        number=NUMBERS,
        count=st.integers(1, 8),
        to=st.integers(0, 2),
        seconds=st.sampled_from([0.0, 0.0, 4.0, 9.0, 60.0, 150.0]),
    )
    def be_away(self, number: int, count: int, to: int, seconds: float) -> None:
        """It misses some events, and comes back."""
        tab = self.tab(number)
        self.leave(tab, "cut")
        for _ in range(count):
            self.push(Model.targets(tab.uid, tab.client_id)[to])
        self.world.advance(seconds)
        self.connect(tab)

    @precondition(has_tab)
    @rule(number=NUMBERS)
    def lose_handshake(self, number: int) -> None:
        """The server answers its handshake, and the answer is lost."""
        tab = self.tab(number)
        if tab.needs_name:
            return
        self.clients_of(tab)
        tab.client.is_deaf = True
        self.connect(tab)
        self.leave(tab, "cut")
        tab.client.is_deaf = False

    @precondition(has_tab)
    @rule(number=NUMBERS, how=st.sampled_from(["cut", "cut", "close", "vanish"]))
    def lose(self, number: int, how: str) -> None:
        self.leave(self.tab(number), how)

    @precondition(has_tab)
    @rule(number=NUMBERS, up=st.sampled_from(DELAYS), down=st.sampled_from(DELAYS))
    def slow_down(self, number: int, up: float, down: float) -> None:
        client = self.tab(number).client
        if client is not None:
            client.delay(up=up, down=down)

    @precondition(has_tab)
    @rule(number=NUMBERS)
    def lag(self, number: int) -> None:
        self.leave(self.tab(number), "lag")

    @precondition(has_tab)
    @rule(number=NUMBERS)
    def read_again(self, number: int) -> None:
        self.leave(self.tab(number), "resume")

    @precondition(has_tab)
    @rule(
        number=NUMBERS,
        kind=KINDS,
        argument=st.integers(0, 5),
        wants_reply=st.booleans(),
        count=st.sampled_from([1, 1, 1, 5]),
    )
    def tell(self, number: int, kind: str, argument: int, wants_reply: bool, count: int) -> None:
        tab = self.tab(number)
        if tab.is_mute or tab.client is None or tab.made_for is not self.world:
            return
        for _ in range(count):
            ask = tab.ask(kind, argument)
            ask.is_finished = kind == "none"
            data = [tab.index, ask.number, argument]
            if wants_reply:
                ask.reply = tab.client.ask(f"t/{kind}", data)
            else:
                tab.client.send(f"t/{kind}", data)

    def posts(self, tab: Tab) -> bool:
        is_ajax = tab.kind == "ajax" and not tab.is_mute and self.is_open(tab)
        return is_ajax and tab.client._udt is not None

    @precondition(has_tab)
    @rule(number=NUMBERS, which=NUMBERS)
    def repeat_post(self, number: int, which: int) -> None:
        """A browser sends a POST again by itself."""
        tab = self.tab(number)
        sent = [each for each in sorted(tab.waiting) if each <= tab.sent]
        if self.posts(tab) and sent:
            again = sent[which % len(sent)]
            reply = tab.replies.get(again) or PendingReply(tab.client, "again")
            tab.client._post_numbered(again, tab.waiting[again], reply)

    @precondition(has_tab)
    @rule(number=NUMBERS, count=st.integers(2, 4))
    def post_in_disorder(self, number: int, count: int) -> None:
        """POSTs overtake each other."""
        tab = self.tab(number)
        if not self.posts(tab):
            return
        for _ in range(count):
            ask = tab.ask("echo", 0)
            tab.number(
                tab.client._packet(Keyword("t/echo"), [tab.index, ask.number, 0], None), None
            )
        for each in range(tab.numbered, tab.numbered - count, -1):
            tab.client._post_numbered(each, tab.waiting[each], PendingReply(tab.client, "t/echo"))

    @precondition(has_tab)
    @rule(number=NUMBERS)
    def ping(self, number: int) -> None:
        tab = self.tab(number)
        if tab.kind == "ws" and self.is_open(tab) and tab.client._is_back:
            tab.client.ping()

    @precondition(has_tab)
    @rule(number=NUMBERS)
    def lose_answer(self, number: int) -> None:
        """The answer to a poll is lost, and the browser polls again by itself."""
        tab = self.tab(number)
        if tab.kind == "ajax" and self.is_open(tab) and tab.client.parked is not None:
            transport = tab.client.parked.transport
            transport.on_arrival = tab.client.repeat_poll

    @precondition(has_tab)
    @rule(number=NUMBERS, is_copy=st.booleans(), kind=st.sampled_from(["ws"]))
    def come_twice(self, number: int, is_copy: bool, kind: str) -> None:
        """Another client comes with the same client-id: a duplicated tab."""
        tab = self.tab(number)
        if len(self.model.tabs) >= MAX_TABS or tab.is_mute:
            return
        other = self.model.tab(tab.uid, tab.client_id)
        other.kind, other.is_mute, other.owed = kind, True, list(tab.owed)
        for each in self.model.same_client(tab):
            each.has_double = True
            each.was_forgotten |= not is_copy  # the numbers begin anew
        if is_copy:
            for name in ("position", "acked", "sent", "base", "checked"):
                setattr(other, name, getattr(tab, name))
            other.numbered = tab.sent
            other.received = list(tab.received)
            other.asks = tab.asks
        self.connect(other)

    @rule(kind=st.sampled_from(["future", "epoch", "old", "malformed", "numbers"]))
    def lie(self, kind: str) -> None:
        """A stranger presents a position that it never had."""
        position = self.engine.position_of(self.engine.newest)
        seq, epoch = position.seq, position.epoch
        state = Resumption()
        state.position = {
            "future": f"{epoch}-{seq + 7}",
            "epoch": f"{(epoch + 1) % 10**15}-{seq}",
            "old": f"{epoch}-{seq // 2}",
            "malformed": f"{epoch}-",
            "numbers": f"{epoch}-{seq}",
        }[kind]
        if kind == "numbers":
            state.acked = state.sent = 10**14
        hidden = self.model.tab("b", f"liar-{self.count}")
        self.model.tabs.pop()
        self.count += 1
        self.hidden = hidden
        client = WsClient(self.world, hidden.client_id, {"tab": "-1"}, {}, "b", resumes=state)
        if kind == "malformed":
            with pytest.raises(HandshakeRefused):
                client.connect()
            return
        client.connect()
        same("was", client.was, "gap")
        client.cut()

    # -- steps of the application

    @rule(
        data=st.data(),
        to=st.sampled_from(["a", "b", ALL, ANONYMOUS, "client"]),
        how=st.sampled_from(["kept", "kept", "kept", "lost", "latest", "cursor"]),
        flush=st.booleans(),
        length=st.sampled_from([0, 0, 70, 300]),
        count=st.sampled_from([1, 1, 3]),
    )
    def send(self, data: Any, to: Any, how: str, flush: bool, length: int, count: int) -> None:
        if to == "client":
            if not self.model.tabs:
                return
            tab = self.tab(data.draw(NUMBERS))
            to = Model.targets(tab.uid, tab.client_id)[-1]
        key = {"latest": "k", "cursor": "c"}.get(how)
        for _ in range(count):
            self.push(to, how not in ("lost", "cursor"), key, flush, length)

    @rule(uid=st.sampled_from(["a", "b", ALL, ANONYMOUS]), code=st.sampled_from([1000, 4401]))
    def disconnect(self, uid: Any, code: int) -> None:
        self.chsk.disconnect(uid, code=code)

    @precondition(lambda self: self.later)
    @rule(number=NUMBERS)
    def reply(self, number: int) -> None:
        msg, ask = self.later.pop(number % len(self.later))
        if ask.reply is not None:
            ask.answer.append(msg.data)
        self.world.inside(lambda: msg.reply(msg.data))

    @rule(seconds=st.sampled_from([0.0, 1.0, 5.0]))
    def restart(self, seconds: float) -> None:
        """The server stops and starts again; the engine stays."""
        self.exit()
        self.clock += seconds
        self.enter()

    # -- time

    @rule()
    def turn(self) -> None:
        self.world.turn()

    @rule(seconds=st.sampled_from(SECONDS))
    def advance(self, seconds: float) -> None:
        self.world.advance(seconds)

    @rule(seconds=st.sampled_from(LONG))
    def wait(self, seconds: float) -> None:
        self.world.advance(seconds)

    # -- what must be so

    def is_open(self, tab: Tab) -> bool:
        return (
            tab.client is not None
            and getattr(tab, "made_for", None) is self.world
            and tab.client.is_open
            and not tab.client._up.is_dead
        )

    @invariant()
    def agrees(self) -> None:
        if self.world is not None:
            self.compare()

    def compare(self) -> None:
        if self.faults:
            raise self.faults[0]
        for tab in self.model.tabs:
            if self.is_open(tab) and (tab.kind == "ws" or tab.client.parked is not None):
                self.model.is_here(tab)
            if tab.client is not None and tab.client.close_code == 4409:
                tab.needs_name = True
                tab.client.close_code = 1006
            if tab.client is not None:
                closed = getattr(tab.client, "transport", None)
                differs = closed is not None and closed.closed_with == (1011, DIFFER)
                assert not differs or tab.has_double, f"{tab!r}: numbers differ"
        self.is_bounded()
        stats, core = self.chsk.stats, self.chsk._core
        waiting = sum(box.waiting_events for box in core.fanout)
        lost = sum(getattr(stats.lost, name) for name in type(stats.lost).__slots__)
        same("sent", stats.sent, stats.written + stats.replaced + lost + waiting)

    def is_bounded(self) -> None:
        """The engine holds no more than it may."""
        engine, config = self.engine, self.chsk.config
        limit = config.keep_bytes
        assert engine._events.nbytes <= limit
        assert len(engine._records) * AROUND_RECORD <= limit
        assert engine._replies.nbytes <= 2 * limit + 2048
        for log in engine._logs.values():
            assert len(log) <= config.keep_events

    # -- the end

    def settle(self) -> None:
        """Everybody comes back, and has everything."""
        tabs = [tab for tab in self.model.tabs if not tab.is_mute]
        for tab in self.model.tabs:
            self.leave(tab, "cut")
            if tab.client is not None:
                tab.client.delay(0)
        for _ in range(100):
            for tab in tabs:
                if any(not ask.is_finished for ask in tab.asks) or not self.is_open(tab):
                    self.connect(tab)
            self.advance(9.0)
            self.compare()
            if all(ask.is_finished for tab in tabs for ask in tab.asks):
                break
        while self.later:
            self.reply(0)
        for _ in range(2):
            for tab in tabs:
                self.connect(tab)
            self.advance(45.0)
            self.compare()
        for tab in tabs:
            if tab.kind == "ws":
                tab.client.ping()
        self.advance(1.0)
        for tab in tabs:
            self.has_all(tab)

    def has_all(self, tab: Tab) -> None:
        tab.has_all(self.model.count)
        for ask in tab.asks:
            assert ask.is_finished and (ask.begun or ask.kind == "none"), f"{tab!r}: {ask}"
        if not tab.has_double:
            same(f"acknowledged to {tab!r}", tab.acked, tab.numbered)
        if tab.was_forgotten or tab.has_double or self.chsk.config.keep_bytes < 10_000:
            return  # its replies are lost, or those of all were too many
        for ask in tab.asks:
            if ask.reply is None:
                continue
            assert ask.reply.is_here, f"{tab!r}: {ask} has no reply"
            value = ask.reply.value
            if value == TIMEOUT:
                # Its POST was answered after poll_timeout.
                assert self.model.now() - ask.at > self.chsk.config.poll_timeout
            elif ask.kind == "none":
                same("reply", value, [ERROR, "unclaimed"])
            else:
                assert value in ask.answer, f"{tab!r}: {ask} got {value}"

    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            self.compare()
            self.settle()
            self.leave_nothing()
        finally:
            if self.world is not None:
                self.exit()
            LOG.removeHandler(self.log)

    def leave_nothing(self) -> None:
        """Everybody goes, and the engine holds nothing after a while."""
        for tab in self.model.tabs:
            self.leave(tab, "cut")
            tab.client = tab.clients = tab.made_for = tab = None
        self.advance(50.0)
        core = self.chsk._core
        same("sessions", len(core.hub.table), 0)
        self.advance(self.chsk.config.keep_seconds + 1)
        assert self.engine.claim(ClientTarget(None, "nobody")) is None
        left = set(self.engine._logs), self.engine._records, self.engine._users
        same("left", left, (set(self.engine._logs) & {ALL, ANONYMOUS}, {}, {}))
        for log in self.engine._logs.values():
            self.engine._events.clear(log)
        same("bytes left", self.engine._events.nbytes, 0)


def run(steps: int, **options: Any) -> None:
    run_state_machine_as_test(
        Resuming,
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
    """Keep records from pytest, which would hold all of them, and the sessions that they name."""
    LOG.propagate = False
    try:
        yield
    finally:
        LOG.propagate = True


@pytest.mark.slow
def test_clients_that_resume_get_what_the_model_says() -> None:
    minutes = float(os.environ.get("MODEL_MINUTES", "0"))
    with unrecorded():
        if not minutes:
            run(50, max_examples=80, derandomize=True)
            return
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            run(80, max_examples=200)


# -- controls: without a rule, the model complains


def _nothing_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    read = Memory.read
    monkeypatch.setattr(Memory, "read", lambda *args: read(*args) or [])


def _nothing_is_replayed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resume, "_missed", lambda *args: [])


def _positions_stand_still(monkeypatch: pytest.MonkeyPatch) -> None:
    take = Resumption.take

    def forget(self: Resumption, batch: list[list[Any]]) -> list[list[Any]]:
        return take(self, [event for event in batch if event[0] != "chsk/pos"])

    monkeypatch.setattr(Resumption, "take", forget)
    monkeypatch.setattr(Tab, "seq", 10**9)  # only what this leads to shall be found


def _old_connections_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Hub, "end_connections", lambda *args: None)


def _posts_may_come_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostOrder, "is_repeated", lambda *args: False)


def _posts_pass_by_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(PostOrder, "must_wait", lambda *args: False)


def _all_that_was_sent_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    open_ = Resume.open

    def lie(self: Resume, session: Any, asked: Any, *, streams: bool) -> Any:
        if session.inbox.numbers is not None:
            session.inbox.numbers.received = max(session.inbox.numbers.received, asked.sent)
        return open_(self, session, asked, streams=streams)

    monkeypatch.setattr(Resume, "open", lie)


def _records_are_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Memory, "keep", lambda self, client, _: self.drop(client))


def _replies_do_not_come_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resume, "_put_replies", lambda *args: None)


def _a_lost_gap_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Resume, "_is_other", lambda *args: False)
    monkeypatch.setattr(
        Resume,
        "_missed",
        lambda self, source, session, since: source.read(session.target, since, session.first_seq),
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "without",
    [
        _nothing_is_missing,
        _nothing_is_replayed,
        _positions_stand_still,
        pytest.param(_old_connections_go_on, marks=pytest.mark.full),
        _posts_may_come_twice,
        _posts_pass_by_others,
        _all_that_was_sent_is_taken,
        _records_are_not_kept,
        pytest.param(_replies_do_not_come_again, marks=pytest.mark.full),
        _a_lost_gap_is_forgotten,
    ],
)
def test_without_a_rule_the_model_complains(
    without: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    without(monkeypatch)
    with unrecorded(), pytest.raises((AssertionError, ExceptionGroup, ChannelClosed)):
        run(
            50,
            max_examples=2000,
            derandomize=True,
            phases=[Phase.generate],
            report_multiple_bugs=False,
        )
