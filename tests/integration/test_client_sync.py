"""The synchronous client, on real sockets, against a server in another thread."""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from readme_pair import free_port

import chansock
from chansock import connect_sync
from chansock.testing import serve_in_thread

ROOT = Path(__file__).parents[2]
LIMIT = 120.0

CLOSES_SOON = chansock.ClientConfig(close_timeout=1)


class App:
    """A server with a few handlers; what they see is told in `seen`."""

    def __init__(self) -> None:
        self.url = ""
        self.seen: SimpleQueue[Any] = SimpleQueue()
        self.token = "right"
        self.chsk = chsk = chansock.ChannelSocket(
            chansock.Config(grace_ws=0.0, grace_ajax=0.1),
            user_id=lambda request: request.params.get("user"),
            authorize=lambda request: request.params.get("token", "right") == self.token,
        )

        @chsk.on("math/double")
        def double(msg: chansock.EventMsg[int]) -> int:
            return msg.data * 2

        @chsk.on("chat/say")
        def say(msg: chansock.EventMsg[Any]) -> None:
            chsk.send(chansock.ALL, "chat/said", msg.data)

        @chsk.on("app/burst")
        def burst(msg: chansock.EventMsg[int]) -> None:
            for number in range(msg.data):
                chsk.send(msg.client, "app/item", number)

        @chsk.on("app/hold")
        def hold(msg: chansock.EventMsg[Any]) -> Any:
            self.seen.put(msg)
            return chansock.LATER

        @chsk.on("app/tell")
        def tell(msg: chansock.EventMsg[Any]) -> None:
            self.seen.put(msg.data)

        @chsk.on("app/fail")
        def fail(msg: chansock.EventMsg[Any]) -> None:
            raise LookupError("on purpose")

        @chsk.on("app/interrupt")
        def interrupt(msg: chansock.EventMsg[Any]) -> Any:
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
            return chansock.LATER

        @chsk.on("app/close")
        def close(msg: chansock.EventMsg[Any]) -> None:
            chsk.disconnect(msg.client, code=4001)

        @chsk.on("chsk/uidport-open")
        def came(msg: chansock.EventMsg[Any]) -> None:
            self.seen.put(("came", msg.data))

        @chsk.on("chsk/uidport-close")
        def went(msg: chansock.EventMsg[Any]) -> None:
            self.seen.put(("went", msg.data))


@pytest.fixture
def app() -> Iterator[App]:
    """An App that is served in a thread of its own."""
    found = App()
    with serve_in_thread(found.chsk) as served:
        found.url = served.url
        yield found


@pytest.fixture(params=["ws", "ajax"])
def client(request: pytest.FixtureRequest, app: App) -> Iterator[chansock.SyncClient]:
    with connect_sync(
        app.url, transport=request.param, config=chansock.ClientConfig(ajax_timeout=5)
    ) as client:
        assert client.state.type == request.param
        yield client


def told(app: App, kind: type = object) -> Any:
    """The next that a handler of the server tells, of that kind."""
    while True:
        found = app.seen.get(timeout=LIMIT)
        if isinstance(found, kind):
            return found


def threads() -> list[str]:
    return sorted(t.name for t in threading.enumerate() if t.name.startswith("chansock-"))


# -- the same words


def test_a_timeout_asks_for_a_reply(client):
    assert client.send("math/double", 21, timeout=60) == 42


def test_without_a_timeout_an_event_is_sent_and_nothing_is_given(app, client):
    assert client.send("app/tell", [1]) is None
    assert told(app, list) == [1]


def test_for_gives_events_in_order_and_ends_after_disconnect(client):
    client.send("app/burst", 300)
    got = []
    for event in client:
        got.append((event.id, event.data))
        if len(got) == 300:
            client.disconnect()
    assert got == [("app/item", number) for number in range(300)]


def test_recv_gives_one_event_or_tells_that_none_came_in_time(client):
    with pytest.raises(TimeoutError, match=r"^expected an event within 0\.01 s, got none$"):
        client.recv(0.01)
    with pytest.raises(TimeoutError):
        client.recv(0)
    client.send("chat/say", "hello")
    assert client.recv(5) == chansock.Event("chat/said", "hello")


@pytest.mark.parametrize("timeout", [-1, True, "1", float("nan")])
def test_recv_takes_no_timeout_that_is_none(app, timeout):
    with pytest.raises(chansock.InvalidEvent, match="expected a number of seconds from 0, got"):
        connect_sync(app.url).recv(timeout)


def test_what_cannot_be_sent_raises_where_it_is_sent(client):
    with pytest.raises(chansock.InvalidEvent):
        client.send("say")
    with pytest.raises(chansock.EncodeError):
        client.send("chat/say", object())
    with pytest.raises(chansock.ReplyError):
        client.send("app/fail", timeout=60)
    with pytest.raises(chansock.ReplyTimeout):
        client.send("app/hold", timeout=0.01)
    assert client.send("math/double", 1, timeout=60) == 2


def test_state_is_that_of_the_channel(app):
    client = connect_sync(app.url, params={"user": "ann"}, client_id="one")
    assert (client.state.open, client.client_id) == (False, "one")
    with client:
        assert (client.state.open, client.state.uid) == (True, "ann")
        client.disconnect()
        assert (client.state.open, client.state.reason.kind) == (False, "requested-disconnect")
        with pytest.raises(chansock.ChannelClosed, match="requested-disconnect"):
            client.send("chat/say")
    assert threads() == []


def test_reconnect_opens_what_disconnect_closed(client):
    states: SimpleQueue[chansock.State] = SimpleQueue()
    client.on_state(states.put)
    client.disconnect()
    assert not states.get(timeout=LIMIT).open
    with pytest.raises(chansock.ChannelClosed):
        client.recv()
    client.reconnect()
    while not states.get(timeout=LIMIT).open:
        pass
    client.send("chat/say", 2)
    assert client.recv(5).data == 2


def test_it_comes_back_after_a_close_by_itself(app):
    with connect_sync(app.url, transport="ws", params={"user": "bob"}) as client:
        states: SimpleQueue[chansock.State] = SimpleQueue()
        client.on_state(states.put)
        client.send("app/close")
        assert states.get(timeout=LIMIT).reason.code == 4001
        while not states.get(timeout=LIMIT).open:
            pass
        assert client.send("math/double", 2, timeout=60) == 4
        client.break_connection()
        assert not states.get(timeout=LIMIT).open


def test_it_can_be_opened_again(app):
    client = connect_sync(app.url)
    for number in (1, 2):
        assert client.open() is client
        assert client.send("math/double", number, timeout=60) == 2 * number
        with pytest.raises(RuntimeError, match="expected a client that is closed"):
            client.open()
        client.close()
        client.close()
        assert threads() == []


def test_outside_of_with_it_is_closed(app):
    client = connect_sync(app.url)
    for _ in (1, 2):
        for call in (
            lambda: client.send("a/b"),
            client.recv,
            client.reconnect,
            client.disconnect,
            client.break_connection,
        ):
            with pytest.raises(chansock.ChannelClosed, match="inside its `with`, or opened"):
                call()
        with client:
            pass


def test_what_came_before_the_close_can_be_taken_after_it(app):
    with connect_sync(app.url) as client:
        client.send("app/burst", 3)
        assert client.recv(5).data == 0
        assert client.send("math/double", 1, timeout=60) == 2  # behind the burst
        client.disconnect()
        assert [event.data for event in client] == [1, 2]


def test_the_parameters_are_those_of_connect():
    mine, theirs = inspect.signature(connect_sync), inspect.signature(chansock.connect)
    assert mine.parameters == theirs.parameters
    assert mine.return_annotation == "SyncClient"
    with pytest.raises(chansock.ConfigError, match=r"^transport: expected"):
        connect_sync("ws://localhost/chsk", transport="udp")
    with pytest.raises(chansock.ConfigError, match=r"unknown option 'proxi': did you mean 'proxy'"):
        connect_sync("ws://localhost/chsk", proxi=None)
    form = r"is a field of ClientConfig: config=ClientConfig\(close_timeout=...\)"
    with pytest.raises(chansock.ConfigError, match=form):
        connect_sync("ws://localhost/chsk", close_timeout=1)


def test_every_method_of_client_is_there():
    def names(kind: type) -> set[str]:
        return {name for name in vars(kind) if not name.startswith("_")}

    assert names(chansock.SyncClient) - {"recv"} == names(chansock.Client)


# -- handlers


def test_handlers_run_in_one_thread_in_order_and_may_ask(app, client):
    seen: SimpleQueue[Any] = SimpleQueue()

    @client.on("app/item")
    def item(event: chansock.Event) -> None:
        doubled = client.send("math/double", event.data, timeout=60)
        seen.put((event.data, doubled, threading.current_thread().name))

    client.send("app/burst", 20)
    got = [seen.get(timeout=LIMIT) for _ in range(20)]
    assert got == [(number, 2 * number, "chansock-handlers") for number in range(20)]


def test_a_handler_that_raises_is_logged_and_the_next_event_handled(client, caplog):
    seen: SimpleQueue[Any] = SimpleQueue()

    def item(event: chansock.Event) -> None:
        seen.put(event.data)
        raise (ValueError, StopIteration, SystemExit)[event.data]

    assert client.on("app/item", item) is item
    client.on("chat/said", seen.put)
    with caplog.at_level(logging.ERROR, "chansock"):
        client.send("app/burst", 3)
        assert [seen.get(timeout=LIMIT) for _ in range(3)] == [0, 1, 2]
        client.send("chat/say", "on")
        assert seen.get(timeout=LIMIT).data == "on"
    logged = [record for record in caplog.records if "handler_failed" in record.message]
    assert len(logged) == 3


def test_a_state_handler_that_raises_is_logged(app, caplog):
    def broken(state: chansock.State) -> None:
        raise ValueError

    with caplog.at_level(logging.ERROR, "chansock"), connect_sync(app.url) as client:
        client.on_state(broken)
    assert "state_handler_failed" in caplog.text


def test_a_coroutine_function_is_no_handler(app):
    async def handler(event: Any) -> None: ...

    client = connect_sync(app.url)
    for add in (lambda: client.on("a/b", handler), lambda: client.on_state(handler)):
        with pytest.raises(TypeError, match="got a coroutine function: those are for `connect`"):
            add()
    with pytest.raises(TypeError, match="expected a handler"):
        client.on("a/b", 5)
    with pytest.raises(chansock.InvalidEvent):
        client.on("a")


def test_a_handler_may_close_its_client(app, client):
    closed = threading.Event()

    @client.on("chat/said")
    def said(event: chansock.Event) -> None:
        client.close()
        closed.set()

    client.send("chat/say", 1)
    assert closed.wait(LIMIT)
    assert not client.state.open
    with pytest.raises(chansock.ChannelClosed):
        client.send("a/b")


def test_close_ends_the_wait_of_another_thread(app, client):
    with ThreadPoolExecutor(3) as pool:
        asking = pool.submit(client.send, "app/hold", timeout=60)
        receiving = pool.submit(client.recv)
        iterating = pool.submit(list, client)
        told(app, chansock.EventMsg)
        client.close()
        assert isinstance(asking.exception(LIMIT), chansock.ChannelClosed)
        assert isinstance(receiving.exception(LIMIT), chansock.ChannelClosed)
        assert iterating.result(LIMIT) == []


@pytest.mark.parametrize("when", ["at once", "while it connects"])
def test_close_ends_the_open_of_another_thread(when):
    raised: SimpleQueue[BaseException] = SimpleQueue()

    def opening() -> None:
        try:
            client.open()
        except BaseException as error:
            raised.put(error)

    with ExitStack() as held:
        silent = held.enter_context(socket.create_server(("127.0.0.1", 0)))
        client = connect_sync(f"ws://127.0.0.1:{silent.getsockname()[1]}/chsk", config=CLOSES_SOON)
        threading.Thread(target=opening, daemon=True).start()
        if when == "at once":
            while not threads():
                pass
        else:
            accepted, _ = silent.accept()
            held.enter_context(accepted)
        client.close()
        assert isinstance(raised.get(timeout=LIMIT), chansock.ChannelClosed)
    assert threads() == []


# -- threads, loops and processes


def test_many_threads_use_one_client(client):
    def ask(base: int) -> list[int]:
        return [client.send("math/double", base + k, timeout=60) for k in range(25)]

    with ThreadPoolExecutor(8) as pool:
        for base, got in zip(range(0, 800, 100), pool.map(ask, range(0, 800, 100)), strict=True):
            assert got == [2 * (base + k) for k in range(25)]


def test_each_event_goes_to_one_of_the_threads_that_wait(client):
    client.send("app/burst", 400)
    with ThreadPoolExecutor(4) as pool:
        parts = [pool.submit(lambda: [client.recv(10).data for _ in range(100)]) for _ in range(4)]
        got = [part.result(LIMIT) for part in parts]
    assert sorted(number for part in got for number in part) == list(range(400))
    assert all(part == sorted(part) for part in got)


def test_it_works_where_a_loop_runs_already(app):
    async def cell() -> int:
        with connect_sync(app.url) as client:
            return client.send("math/double", 4, timeout=60)

    assert asyncio.run(cell()) == 8


def test_no_more_is_read_than_the_inbox_takes(app):
    with connect_sync(
        app.url, transport="ws", config=chansock.ClientConfig(max_inbox_events=10)
    ) as client:
        client.send("app/burst", 1000)
        assert [client.recv(5).data for _ in range(1000)] == list(range(1000))


def test_functions_for_credentials_may_wait(app):
    names: list[str] = []

    def params() -> dict[str, str]:
        names.append(threading.current_thread().name)
        return {"user": "cid"}

    async def headers() -> dict[str, str]:
        names.append(threading.current_thread().name)
        return {"X-App": "1"}

    with connect_sync(lambda: app.url, params=params, headers=headers) as client:
        assert client.state.uid == "cid"
    assert sorted(names) == ["chansock-client", "chansock-sources"]
    assert threads() == []


def test_a_client_that_is_refused_raises_and_leaves_no_thread(app):
    with pytest.raises(chansock.HandshakeRefused, match="401"):
        connect_sync(app.url, params={"token": "wrong"}).open()
    with pytest.raises(ConnectionError), connect_sync(f"ws://127.0.0.1:{free_port()}/chsk"):
        pass

    def broken() -> str:
        raise LookupError("no token")

    with pytest.raises(LookupError, match="no token"):
        connect_sync(app.url, csrf_token=broken).open()
    assert threads() == []


def test_keyboard_interrupt_leaves_it_usable_and_loses_nothing(client):
    with pytest.raises(KeyboardInterrupt):
        client.send("app/interrupt", timeout=60)
    assert client.send("math/double", 1, timeout=60) == 2

    def receive() -> None:
        client.send("app/interrupt")
        client.recv()

    with pytest.raises(KeyboardInterrupt):
        receive()
    client.send("app/burst", 200)
    assert [client.recv(5).data for _ in range(200)] == list(range(200))


def test_keyboard_interrupt_ends_an_open_that_hangs():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        client = connect_sync(f"ws://127.0.0.1:{silent.getsockname()[1]}/chsk", config=CLOSES_SOON)

        def interrupt() -> None:
            accepted, _ = silent.accept()
            with accepted:
                accepted.recv(1)
                signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                while accepted.recv(4096):
                    pass

        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            client.open()
        thread.join(LIMIT)
    assert threads() == []


def test_one_that_is_forgotten_is_closed(app):
    client = connect_sync(app.url, params={"user": "dan"}).open()
    assert told(app, tuple) == ("came", "dan")
    del client
    gc.collect()
    assert told(app, tuple) == ("went", "dan")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
def test_a_forked_child_cannot_use_it_and_takes_nothing_from_the_parent(app, client):
    script_end, child_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            try:
                client.send("a/b")
            except chansock.ChannelClosed as error:
                os.write(child_end, str(error).encode())
            client.close()
        finally:
            os._exit(0)
    os.close(child_end)
    assert os.waitpid(pid, 0)[1] == 0
    with os.fdopen(script_end) as pipe:
        assert pipe.read().startswith("expected the process that opened the client, got one forked")
    assert client.send("math/double", 3, timeout=60) == 6


LEFT_OPEN = """
import sys, chansock
client = chansock.connect_sync(sys.argv[1], params={"user": "eve"}, transport=sys.argv[2]).open()
client.on("app/item", lambda event: client)
print(client.send("math/double", 21, timeout=60))
"""


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["ws", "ajax"])
@pytest.mark.parametrize("end", ["", "raise SystemExit(3)"])
def test_one_that_is_open_at_the_end_of_the_interpreter_is_closed(app, transport, end):
    done = subprocess.run(
        [sys.executable, "-c", LEFT_OPEN + end, app.url, transport],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=LIMIT,
    )
    assert (done.stdout, done.stderr, done.returncode) == ("42\n", "", 3 if end else 0)
    assert told(app, tuple) == ("came", "eve")
    assert told(app, tuple) == ("went", "eve")
