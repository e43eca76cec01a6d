"""What a peer can make the channel log: some lines of each kind, and then a number."""

from __future__ import annotations

import asyncio
import logging
import random
import re
import threading
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peer
import pytest
from manual_clock import ManualClock
from peer import Peer
from raw import Run
from sente_script import over_ws, script

import chansock
from chansock import BadData, ChannelSocket, Config, Request
from chansock._core import log_limit as module
from chansock._core.log_limit import BURST, MAX_KINDS, MAX_LINE, PERIOD, LogLimit, call_later
from chansock._edge.forwarded import Proxies
from chansock._fast.io.timers import TimerQueue
from chansock.client import connect
from chansock.client.threads import Caller
from chansock.testing import RecordingTransport, World, user_id

PACKAGE = Path(chansock.__file__).parent
LOG = logging.getLogger("chansock.test")
COUNT = re.compile(r"(.+): ([\d,]+) more in the last (\d+) s")


class Ground:
    """A limit on a manual clock."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.limit = TimerQueue(self.clock).log_limit


@pytest.fixture
def ground() -> Ground:
    return Ground()


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return what was logged since the last call."""
    caplog.set_level(logging.INFO, "chansock")

    def take() -> list[str]:
        found = caplog.messages
        caplog.clear()
        return found

    return take


def counted(found: list[str], kind: str) -> int:
    """Return how many events of one kind the lines are about: each is one, or counts many."""
    total = 0
    for line in found:
        if count := COUNT.fullmatch(line):
            total += int(count[2].replace(",", "")) if count[1].startswith(kind) else 0
        else:
            total += line.startswith(kind)
    return total


# the limit by itself


def test_the_first_lines_of_a_flood_appear_and_the_rest_is_a_number(ground, lines):
    for number in range(12_365):
        ground.limit.warning(LOG, "refused reason=csrf status=403: %s", number)
    assert lines() == [f"refused reason=csrf status=403: {n}" for n in range(BURST)]
    ground.clock.advance(PERIOD)  # no further event comes
    assert lines() == ["refused reason=csrf status=403: 12,345 more in the last 60 s"]


def test_a_flood_that_lasts_writes_one_line_a_second(ground, lines):
    for _ in range(6_000):
        ground.limit.warning(LOG, "ping_timeout uid=%r", "ada")
        ground.clock.advance(0.1)
    found = lines()
    assert len(found) <= BURST + 600 + 600 / PERIOD
    ground.limit.sum_up()
    assert counted(found + lines(), "ping_timeout") == 6_000


def test_a_kind_that_was_quiet_has_its_burst_again(ground, lines):
    for _ in range(3):
        for _ in range(BURST):
            ground.limit.warning(LOG, "ping_timeout")
        ground.clock.advance(float(BURST))
    assert lines() == ["ping_timeout"] * (3 * BURST)


@pytest.mark.parametrize("seed", range(5))
def test_lines_and_numbers_add_up_to_the_events(ground, lines, seed):
    draw = random.Random(seed)
    kinds = ["refused reason=csrf status=403", "refused reason=origin status=403", "bad_packet"]
    events = dict.fromkeys(kinds, 0)
    for _ in range(500):
        kind = draw.choice(kinds)
        events[kind] += 1
        if draw.random() < 0.2 and events[kind] > 1:
            ground.limit.count(kind)
        else:
            ground.limit.warning(LOG, kind + ": %s", "why")
        if draw.random() < 0.1:
            ground.clock.advance(draw.choice([0.001, 0.5, 7.0]))
    ground.limit.close()
    found = lines()
    assert {kind: counted(found, kind) for kind in kinds} == events


def test_there_is_no_timer_while_no_line_is_left_out(ground, lines):
    for _ in range(BURST):
        ground.limit.warning(LOG, "ping_timeout")
    assert ground.clock.asked == 0
    for _ in range(100):
        ground.limit.warning(LOG, "ping_timeout")
    assert ground.clock.asked == 1
    ground.clock.advance(PERIOD)
    assert ground.clock.wakes == []
    assert len(lines()) == BURST + 1


def test_the_numbers_are_logged_at_the_level_and_by_the_logger_of_their_lines(ground, caplog):
    caplog.set_level(logging.INFO, "chansock")
    for _ in range(BURST + 1):
        ground.limit.info(LOG, "ping_timeout")
    ground.limit.close()
    assert {(record.levelno, record.name) for record in caplog.records} == {
        (logging.INFO, "chansock.test")
    }


def test_one_kind_takes_nothing_from_another(ground, lines):
    for _ in range(1_000):
        ground.limit.warning(LOG, "refused reason=csrf status=403: %s", "no token")
    lines()
    ground.limit.warning(LOG, "refused reason=origin status=403: %s", "another page")
    assert lines() == ["refused reason=origin status=403: another page"]


def test_each_type_of_exception_is_a_kind_so_its_first_traceback_is_kept(ground, caplog):
    for _ in range(1_000):
        ground.limit.error(LOG, "handler_error", error=ValueError("no"))
    caplog.clear()
    ground.limit.error(LOG, "handler_error", error=KeyError("key"))
    assert isinstance(caplog.records[0].exc_info[1], KeyError)
    ground.limit.close()
    assert caplog.messages[1:] == ["handler_error ValueError: 980 more in the last 1 s"]


def test_a_level_that_is_off_is_neither_logged_nor_counted(ground, caplog):
    caplog.set_level(logging.ERROR, "chansock")
    for _ in range(100):
        ground.limit.warning(LOG, "ping_timeout")
        ground.limit.count("ping_timeout")
    ground.limit.close()
    assert caplog.records == []
    assert ground.clock.asked == 0


def test_a_record_is_that_of_its_caller(ground, caplog):
    ground.limit.warning(LOG, "ping_timeout uid=%r", "ada")
    (record,) = caplog.records
    assert record.funcName == "test_a_record_is_that_of_its_caller"
    assert (record.msg, record.args) == ("ping_timeout uid=%r", ("ada",))


def test_memory_does_not_grow_with_events(ground, lines):
    def flood() -> None:
        for number in range(2_000):
            ground.limit.warning(LOG, "bad_packet uid=%r", number)

    flood()
    lines()
    tracemalloc.start()
    try:
        flood()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 10_000


def test_memory_does_not_grow_with_kinds(ground, lines):
    for number in range(3 * MAX_KINDS):
        ground.limit.warning(LOG, "handler_error", kind=f"handler_error id='t/{number}'")
    assert len(ground.limit._kinds) == MAX_KINDS + 1
    ground.limit.close()
    assert counted(lines(), "handler_error") == 3 * MAX_KINDS


def test_a_long_line_is_cut(ground, lines):
    ground.limit.warning(LOG, "refused reason=host status=403: %s", "a" * 1_000_000)
    (line,) = lines()
    assert len(line) < MAX_LINE + 50
    assert line.startswith("refused reason=host status=403: aaa")
    assert "...(998,032 characters)..." in line


def test_a_long_traceback_is_cut(ground, caplog):
    try:
        raise ValueError("x" * 1_000_000)
    except ValueError as error:
        ground.limit.exception(LOG, "hook_error")
        raised = error
    (record,) = caplog.records
    text = logging.Formatter().format(record)
    assert len(text) < 9_000
    assert "test_a_long_traceback_is_cut" in text
    assert record.exc_info[1] is raised


def test_a_value_that_has_no_repr_costs_its_line_nothing_else(ground, lines):
    class Bad:
        def __repr__(self) -> str:
            raise ValueError("no")

    ground.limit.warning(LOG, "bad_packet got=%r", Bad())
    assert lines() == ["bad_packet got=%r (ValueError while formatting)"]


def test_lines_of_many_threads_add_up(lines):
    limit = LogLimit(lambda: 0.0, lambda delay, call, arg: None)

    def work() -> None:
        for _ in range(500):
            limit.warning(LOG, "state_handler_failed")

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    limit.close()
    assert counted(lines(), "state_handler_failed") == 2_000


def test_a_thread_without_a_loop_logs_its_numbers_too():
    done = threading.Event()
    call_later(0.0, lambda _: done.set(), None)
    assert done.wait(60)


def test_a_loop_that_is_closed_harms_no_line(lines):
    loop = asyncio.new_event_loop()
    loop.close()
    limit = LogLimit(lambda: 0.0, loop.call_later)
    for _ in range(BURST + 5):
        limit.warning(LOG, "accept_error")
    limit.close()
    assert counted(lines(), "accept_error") == BURST + 5


# each kind of line of the channel


MANY = 2 * BURST


class Small(RecordingTransport):
    """A transport that raises, or takes nothing."""

    def write(self, packets: list[Any]) -> bool:
        raise OSError("no")


def hook(request: Request) -> Any:
    raise RuntimeError("no")


def refused(world: World, number: int) -> None:
    world._admit(world.request("a", headers={"Origin": f"http://evil{number}.example"}))


def hook_failed(world: World, number: int) -> None:
    world._endpoint.hooks = type(world._endpoint.hooks)(reject=hook)
    world._admit(world.request("a"))


def bad_uid(world: World, number: int) -> None:
    world._endpoint.hooks = type(world._endpoint.hooks)(user_id=lambda request: 1.5)
    world._admit(world.request("a"))


def fed(packet: str) -> Callable[[World, int], None]:
    def cause(world: World, number: int) -> None:
        world.ws(client_id=f"c{number}").feed(packet)

    return cause


def repeated(packet: str) -> Callable[[World, int], None]:
    """The same, all by one connection: only its first is logged."""

    def cause(world: World, number: int) -> None:
        client = world.clients[0] if world.clients else world.ws(client_id="c")
        client.feed(packet)

    return cause


def silent(world: World, number: int) -> None:
    world.ws(client_id=f"c{number}").vanish()
    if number == MANY - 1:
        world.advance(30)


def in_grace(world: World, number: int) -> None:
    world.ws(client_id=f"c{number}").cut()
    if number == MANY - 1:
        world.chsk.send(chansock.ALL, "t/e")
        world.advance(5)


def too_slow(world: World, number: int) -> None:
    client = world.ws(f"u{number}", client_id=f"c{number}")
    client.lag()
    for _ in range(12):
        world.chsk.send(f"u{number}", "t/e")
        world.turn()


def displaced(world: World, number: int) -> None:
    first = world.ws(client_id=f"c{number}")
    world.ws(client_id=f"c{number}")
    first.lag()
    for reply in range(12):
        first.feed(f'[[:t/echo] "{reply:06}"]')
        world.turn()


def unwritable(world: World, number: int) -> None:
    world.ws("a", client_id=f"c{number}").transport.__class__ = Small
    world.chsk.send("a", "t/e", flush=True)


def proxied(world: World, number: int) -> None:
    request = Request.from_fields(
        "GET", "/", [("Host", "h"), ("X-Forwarded-For", "10.0.0.1.2")], client=("10.0.0.1", 1)
    )
    Proxies(
        ("10.0.0.1",), ("Forwarded", "X-Forwarded-For"), lambda: world.chsk._timers.log_limit
    ).apply(request)


def due(world: World, number: int) -> None:
    world.inside(lambda: world.chsk._timers.schedule(0.0, hook, None))
    world.advance(0.01)


CAUSES = {
    "refused reason=origin status=403": refused,
    "hook_error": hook_failed,
    "bad_user_id": bad_uid,
    "refused reason=uid status=500": bad_uid,
    "bad_packet": fed("[["),
    "bad_event": fed("[[1 2] nil]"),
    "forged_event": fed("[[:chsk/handshake] nil]"),
    "handler_error": fed("[[:t/throw] nil]"),
    "error_handler_error": fed("[[:t/throw] nil]"),
    "bad_data": fed("[[:t/bad] nil]"),
    "handler_cancelled": fed("[[:t/cancelled] nil]"),
    "ping_timeout": silent,
    "events_lost reason=grace": in_grace,
    "session_cut reason=too_slow": too_slow,
    "displaced_cut reason=too_slow": displaced,
    "write_error": unwritable,
    "bad_forwarded": proxied,
    "timer_error": due,
}


def flooded() -> ChannelSocket:
    chsk = ChannelSocket(Config(max_backlog_events=10), user_id=user_id)

    @chsk.on("t/echo")
    def echo(msg: Any) -> int:
        return 1

    @chsk.on("t/throw")
    def throw(msg: Any) -> None:
        raise RuntimeError("no")

    @chsk.on("t/bad")
    def bad(msg: Any) -> None:
        raise BadData("no")

    @chsk.on("t/cancelled")
    def cancelled(msg: Any) -> None:
        raise asyncio.CancelledError

    @chsk.on_error
    def failed(msg: Any, error: BaseException) -> None:
        raise RuntimeError("no")

    return chsk


@pytest.mark.parametrize("kind", CAUSES)
def test_a_flood_of_what_peers_can_cause_is_counted(kind, lines):
    with World(flooded(), raise_handler_errors=False) as world:
        for number in range(MANY):
            CAUSES[kind](world, number)
    found = lines()
    assert counted(found, kind) == MANY
    assert 0 < sum(line.startswith(kind) and not COUNT.fullmatch(line) for line in found) < MANY


@pytest.mark.parametrize(
    ("kind", "packet"),
    [
        ("bad_packet", "[["),
        ("bad_event", "[[1 2] nil]"),
        ("forged_event", "[[:chsk/handshake] nil]"),
    ],
)
def test_a_connection_s_first_of_a_kind_is_logged_and_the_rest_counted(kind, packet, lines):
    with World(flooded(), raise_handler_errors=False) as world:
        for number in range(MANY):
            repeated(packet)(world, number)
        first, *rest = lines()
        assert first.startswith(f"{kind} uid=None")
        assert rest == []
        world.advance(PERIOD)
        assert f"{kind}: {MANY - 1} more in the last 60 s" in lines()


def test_the_first_traceback_of_each_handler_is_kept(caplog):
    with World(flooded(), raise_handler_errors=False) as world:
        world.ws().feed("[[:t/throw] nil]")
    record = next(one for one in caplog.records if one.exc_info)
    assert record.getMessage().startswith("handler_error id=Keyword('t/throw')")


def test_a_new_life_of_a_channel_has_a_limit_of_its_own(lines):
    chsk = flooded()
    for _ in range(2):
        with World(chsk, raise_handler_errors=False) as world:
            for number in range(MANY):
                fed("[[:t/throw] nil]")(world, number)
        assert counted(lines(), "handler_error") == MANY


# by a real server


@pytest.mark.slow
def test_one_connection_that_is_refused_again_and_again_does_not_fill_the_log(run: Run, lines):
    async def main() -> None:
        chsk = ChannelSocket(csrf_token=lambda request: "t0ken")
        async with chansock.serve(chsk, port=0) as listener:
            async with await Peer.connect(listener.port) as wire:
                one = peer.request("GET", "/chsk?client-id=a", host=wire.host)
                for _ in range(20):
                    await wire.send(one * 100)
                    for _ in range(100):
                        assert (await wire.answer()).status == 403
        assert chsk.stats.refused == {"csrf": 2_000}

    run(main())
    found = lines()
    assert counted(found, "refused reason=csrf status=403") == 2_000
    # A machine ten times busier takes a while, and each second is worth one line.
    assert sum(map(len, found)) < 50_000


def test_frames_that_are_none_are_counted_over_many_connections(run: Run, lines):
    async def main() -> None:
        async with chansock.serve(ChannelSocket(), port=0) as listener:
            for _ in range(MANY):
                async with await Peer.connect(listener.port) as wire:
                    await wire.upgrade("/chsk?client-id=a")
                    await wire.send(peer.frame(3))
                    await wire.rest()

    run(main())
    found = lines()
    assert counted(found, "ws_frame_error") == MANY
    assert any(COUNT.fullmatch(line) for line in found)


# the client, whose server floods it


SERVER = {
    "bad_event": "[[" + "[:bare 1] " * MANY + "[:t/end]] nil]",
    "handler_failed event='t/bad'": "[[" + "[:t/bad 1] " * MANY + "[:t/end]] nil]",
    "closed": '[[:chsk/handshake ["bob" nil 7]] nil]',
    "state_handler_failed": '[[:chsk/handshake ["bob" nil 7]] nil]',
}


@pytest.mark.parametrize("kind", SERVER)
def test_a_server_does_not_fill_the_log_of_its_client(kind, run: Run, lines):
    async def main() -> None:
        async with script() as played:
            client = connect(played.url, transport="ws")
            client.on("t/bad", hook)
            client.on_state(hook)
            async with over_ws(played, client) as connection:
                for _ in range(1 if "t/end" in SERVER[kind] else MANY):
                    connection.send(SERVER[kind])
                connection.send("[[[:t/end]] nil]")
                await anext(client)

    run(main())
    found = lines()
    events = counted(found, kind)
    # Each handshake closes and opens, and so does the end.
    assert events == MANY if kind[0] in "bh" else events > MANY
    assert sum(line.startswith(kind) and not COUNT.fullmatch(line) for line in found) < MANY


def test_the_handlers_of_a_client_for_threads_do_not_fill_the_log_either(lines):
    caller = Caller("test")
    for _ in range(MANY):
        caller.post(hook, None)
    caller.stop(20)
    found = lines()
    assert counted(found, "state_handler_failed") == MANY
    assert found[-1] == f"state_handler_failed RuntimeError: {MANY - BURST} more in the last 1 s"


# no line passes by the limit


CALL = re.compile(
    r"\b\w*(?:log|LOG|logger|logging)\.(?:debug|info|warning|error|exception|critical|log)\("
    r'\s*(?:level, )?[\'"](\w+)?|warnings\.(warn)\('
)

# What is logged without a limit, and why no peer can make it a flood.
UNLIMITED = {
    ("_edge/browser.py", "browser_file_missing"): "once for each of our files, of which few are",
    ("_core/endpoint.py", "events_unhandled"): "when the channel stops",
    ("_core/handlers.py", "unclaimed_event"): "once for each of the first 100 ids",
    ("_core/hub.py", "events_lost"): "when the channel stops",
    ("_core/cluster.py", "backplane_failed"): "once for each start of the channel",
    ("asgi/life.py", "no_lifespan"): "when the application starts",
    ("asgi/life.py", "stop_timeout"): "when the channel stops",
    (
        "backplanes/redis/connecting.py",
        "policy_unknown",
    ): "once for each connection",
    ("backplanes/redis/engine.py", "backplane_down"): "once for each connection that ended",
    ("backplanes/redis/engine.py", "backplane_epoch"): "once for each engine that lost its data",
    ("backplanes/redis/engine.py", "backplane_left"): "when the channel stops",
    ("backplanes/redis/engine.py", "backplane_replaced"): "once for each connection",
    ("backplanes/redis/engine.py", "backplane_up"): "once for each connection",
    ("backplanes/redis/engine.py", "entry_refused"): "one a minute, with their number",
    ("backplanes/redis/engine.py", "lease_ended"): "once for each node that has died",
    ("cli/reload.py", "reload_restarting"): "a file of the developer has changed",
    ("cli/reload.py", "reload_waiting"): "a file of the developer has changed",
    ("cli/reload.py", "reload_watching"): "once in each run",
    ("client/timing.py", "backoff_failed"): "once in each attempt, of an application's function",
    ("client/threads.py", "client_failed"): "when a thread ends",
    ("server.py", "listening"): "once for each server",
    ("_edge/sockets.py", "stop_timeout"): "when a server stops",
    ("workers/private_engine.py", "engine_died"): "once for each engine, which backs off",
    ("workers/private_engine.py", "engine_not_started"): "once for each attempt, which backs off",
    ("workers/private_engine.py", "engine_started"): "once for each engine",
    ("workers/supervisor.py", "restart_given_up"): "once for each restart of the workers",
    ("workers/supervisor.py", "worker_died"): "once for each worker, which backs off",
    ("workers/supervisor.py", "worker_replaced"): "once for each worker",
    ("workers/supervisor.py", "worker_started"): "once for each worker",
    ("workers/supervisor.py", "workers_given_up"): "once, at the end",
    ("workers/supervisor.py", "workers_not_started"): "once, at the end",
    ("workers/supervisor.py", "workers_restarting"): "once for each restart of the workers",
    ("workers/supervisor.py", "workers_stopping"): "once, at the end",
    ("uvicorn.py", "no_channel"): "once for each server",
    ("uvicorn.py", ""): "uvicorn's line for each WebSocket, which its log level turns off",
}


def test_every_log_line_is_limited_or_says_why_not():
    found = set()
    for path in sorted(PACKAGE.rglob("*")):
        name = path.relative_to(PACKAGE).as_posix()
        if path.suffix not in (".py", ".pyx", ".pxd", ".pxi") or path == Path(module.__file__):
            continue
        for call in CALL.finditer(path.read_text(encoding="utf-8")):
            found.add((name, call[1] or call[2] or ""))
    assert found == set(UNLIMITED)


def test_a_log_call_that_passes_by_the_limit_is_seen():
    for text in (
        'log.warning("refused reason=%s", reason)',
        "log.exception(\n    'refused'",
        'self._log.info("refused',
        'logging.getLogger("chansock").critical("x") or LOG.error("refused',
    ):
        assert [call[1] for call in CALL.finditer(text)] == ["refused"]
    assert CALL.search("warnings.warn(") is not None
    assert CALL.search('self.log_limit.warning(log, "refused reason=csrf")') is None
