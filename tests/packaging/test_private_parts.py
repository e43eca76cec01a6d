"""The parts of other libraries that chansock uses and that their documentation does not promise.

Each is named here beside the code that uses it. Where a library changes one, its test fails, and
says by its name what stops working. pyproject.toml bounds the versions (its extras), so that
`pip install 'chansock[uvicorn]'` never gets one that no test has seen.
"""

from __future__ import annotations

import asyncio
import inspect
import tomllib
from functools import partial
from typing import Any

import pytest
from dist_content import ROOT

from chansock._fast.io.socket import is_direct

BOUNDED = ("aiohttp", "gunicorn", "hypercorn", "uvicorn", "uvicorn-worker")


@pytest.mark.parametrize("name", BOUNDED)
def test_a_library_with_such_parts_has_an_upper_bound_wherever_it_is_named(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [line for lines in extras.values() for line in lines]
    found = [line for line in wanted if line.partition(">=")[0].partition("[")[0] == name]
    assert found
    assert [line for line in found if "<" not in line] == []
    extra = "gunicorn" if name == "uvicorn-worker" else name
    assert any(line.startswith(f"{name}>=") for line in extras[extra])


# -- uvicorn: chansock.uvicorn, chansock._core.processes


def test_uvicorns_httptools_protocol_handles_an_upgrade_in_the_frame_that_has_the_data() -> None:
    """`_behind_head` reads the bytes behind a head of an upgrade from this frame."""
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

    code = HttpToolsProtocol.data_received.__code__
    assert code.co_varnames[: code.co_argcount] == ("self", "data")
    assert {"HttpParserUpgrade", "handle_websocket_upgrade"} <= set(code.co_names)


def test_uvicorns_h11_protocol_keeps_the_bytes_behind_a_head() -> None:
    """`_behind_head` reads them from `conn.trailing_data`."""
    import h11
    from uvicorn.protocols.http.h11_impl import H11Protocol

    connection = h11.Connection(h11.SERVER)
    connection.receive_data(b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\nmore")
    connection.next_event()
    assert connection.trailing_data[0] == b"more"
    assert "self.conn = h11.Connection(" in inspect.getsource(H11Protocol.__init__)


@pytest.mark.parametrize("module", ["httptools_impl", "h11_impl"])
def test_uvicorns_cycle_says_whether_its_answer_is_complete(module: str) -> None:
    """`_is_answering` reads `response_complete`, and `_let_end` sets `keep_alive`."""
    from importlib import import_module

    found = import_module(f"uvicorn.protocols.http.{module}")
    source = inspect.getsource(found.RequestResponseCycle)
    assert "self.response_complete = True" in source
    assert "self.keep_alive" in source
    assert "self.cycle = " in inspect.getsource(found)


def test_uvicorns_protocols_and_connections_are_passed_to_a_class_for_websockets() -> None:
    """`WebSocketProtocol` is made with these, and counts itself among `connections`."""
    from uvicorn.config import Config
    from uvicorn.protocols.http import h11_impl, httptools_impl
    from uvicorn.server import ServerState

    assert isinstance(ServerState().connections, set)
    for module in (h11_impl, httptools_impl):
        source = inspect.getsource(module)
        for part in ("config=self.config", "server_state=self.server_state", "app_state="):
            assert part in source
    assert isinstance(Config("app:app", interface="asgi3").asgi_version, str)


def test_uvicorns_lifespan_runs_as_a_method_of_what_has_its_config() -> None:
    """`processes.server_of` finds the Config by the task of the lifespan."""
    from uvicorn.config import Config
    from uvicorn.lifespan.on import LifespanOn

    config = Config("app:app", workers=2)
    assert inspect.iscoroutinefunction(LifespanOn.main)
    assert "create_task(self.main())" in inspect.getsource(LifespanOn.startup)
    assert "self.config = config" in inspect.getsource(LifespanOn.__init__)
    assert (config.workers, config.reload, config.callback_notify) == (2, False, None)


def test_uvicorns_worker_passes_its_own_method_to_the_config() -> None:
    """`processes.number_of` finds the worker of gunicorn, and with it its settings."""
    pytest.importorskip("gunicorn")
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker
    from uvicorn_worker import UvicornWorker  # type: ignore[import-untyped]

    source = inspect.getsource(UvicornWorker.__init__)
    assert '"callback_notify": self.callback_notify' in source
    assert isinstance(UvicornWorker.CONFIG_KWARGS, dict)
    assert "self.cfg = cfg" in inspect.getsource(Worker.__init__)
    assert "worker_class.check_config(self.cfg, self.log)" in inspect.getsource(Arbiter)


def test_uvicorns_handlers_of_signals_are_those_of_the_process() -> None:
    """`chansock.asgi` stands before what `signal.getsignal` returns while the lifespan runs."""
    from uvicorn.server import Server

    source = inspect.getsource(Server.capture_signals)
    assert "signal.signal(sig, self.handle_exit)" in source
    assert list(inspect.signature(Server.handle_exit).parameters) == ["self", "sig", "frame"]


# -- hypercorn: chansock._core.processes


def test_hypercorns_lifespan_runs_as_a_method_of_what_has_its_config() -> None:
    """`processes.server_of` finds the Config by the task of the lifespan."""
    pytest.importorskip("hypercorn")
    from hypercorn.asyncio import lifespan, run
    from hypercorn.config import Config

    assert inspect.iscoroutinefunction(lifespan.Lifespan.handle_lifespan)
    assert "self.config = config" in inspect.getsource(lifespan.Lifespan.__init__)
    assert "create_task(lifespan.handle_lifespan())" in inspect.getsource(run)
    assert isinstance(Config().workers, int)


# -- granian: chansock._edge.processes


def test_granians_worker_is_a_process_with_its_number_as_first_argument() -> None:
    """`processes.number_of` finds the number by `multiprocessing.current_process()`."""
    pytest.importorskip("granian")
    from granian.server import common, mp

    assert "name='granian-worker'" in inspect.getsource(mp.WorkerProcess)
    assert "worker_id" in list(inspect.signature(mp.MPServer._spawn_asgi_worker).parameters)[:1]
    assert "idx + 1" in inspect.getsource(mp) + inspect.getsource(common)


# -- aiohttp: chansock.aiohttp, chansock._core.processes


def test_aiohttps_protocol_gives_a_parser_what_came_behind_the_head() -> None:
    """`_take_over` sets a parser of its own to get these bytes."""
    from aiohttp.web_protocol import RequestHandler

    source = inspect.getsource(RequestHandler.set_parser)
    assert "feed_data(self._message_tail)" in source
    signature = inspect.signature(RequestHandler.set_parser)
    required = [one for one in signature.parameters.values() if one.default is one.empty]
    assert [one.name for one in required] == ["self", "parser"]


def test_aiohttps_request_has_its_protocol_and_its_body() -> None:
    """`_take_over` uses `protocol`, and `_end_unread` sets an exception in `content`."""
    from aiohttp import StreamReader, web

    assert isinstance(web.Request.protocol, property) or hasattr(web.Request, "protocol")
    assert list(inspect.signature(StreamReader.set_exception).parameters)[:2] == ["self", "exc"]


def test_aiohttps_worker_runs_its_application_in_a_method_of_its_own() -> None:
    """`processes.number_in` finds the worker, and with it gunicorn's settings, by the task."""
    pytest.importorskip("gunicorn")
    from aiohttp.worker import GunicornWebWorker

    assert inspect.iscoroutinefunction(GunicornWebWorker._run)
    assert "create_task(self._run())" in inspect.getsource(GunicornWebWorker.run)
    assert any(each.__module__.startswith("gunicorn.") for each in GunicornWebWorker.__mro__)


# -- loops: chansock._fast.io.socket, chansock._fast.io.tasks, chansock.testing


@pytest.mark.parametrize("name", ["asyncio", "uvloop"])
def test_a_transport_that_is_no_more_than_its_socket_is_known_by_its_class(name: str) -> None:
    """The engine writes to the descriptor itself; with an unknown class it goes on slower."""
    make = asyncio.new_event_loop
    if name == "uvloop":
        make = pytest.importorskip("uvloop").new_event_loop

    async def main() -> None:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        async with server:
            where = server.sockets[0].getsockname()
            transport, _ = await loop.create_connection(asyncio.Protocol, *where[:2])
            try:
                assert is_direct(transport)
                assert transport.get_extra_info("socket").fileno() >= 0
            finally:
                transport.close()

    with asyncio.Runner(loop_factory=make) as runner:
        runner.run(main())


def test_asyncio_has_what_it_documents_for_loops_and_tasks_of_others() -> None:
    """`tasks` enters a task, `testing` drives a loop: "Extending" in asyncio's documentation."""
    for name in ("_enter_task", "_leave_task"):
        assert callable(getattr(asyncio.tasks, name))
    for name in ("_get_running_loop", "_set_running_loop"):
        assert callable(getattr(asyncio, name))


def test_asgirefs_job_is_a_method_of_a_class_of_its_sync_module() -> None:
    """`chansock.testing` calls what `sync_to_async` brings to the loop on the test's thread."""
    sync = pytest.importorskip("asgiref.sync")
    jobs: list[Any] = []

    class Loop(asyncio.SelectorEventLoop):
        def run_in_executor(self, executor: Any, func: Any, *args: Any) -> Any:
            jobs.append(func)
            return super().run_in_executor(executor, func, *args)

    async def main() -> None:
        await sync.sync_to_async(int)("1")

    with asyncio.Runner(loop_factory=Loop) as runner:
        runner.run(main())
    (job,) = jobs
    assert isinstance(job, partial)
    owner = job.func.__self__  # type: ignore[attr-defined]
    assert any(kind.__module__ == "asgiref.sync" for kind in type(owner).__mro__)
