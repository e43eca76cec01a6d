"""A server as a process of its own: started, killed, and started again on its port."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from log import Log
from readme_pair import free_port

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


class Server:
    """A program that listens on a port of the loopback address."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.port = free_port()  # the same over all its lives
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it; it listens when this returns."""
        await self._run(PORT=str(self.port))
        while not await self._listens():
            await asyncio.sleep(0.02)

    async def _run(self, *arguments: str, **environment: str) -> Any:
        return await self._spawn(sys.executable, str(self.program), *arguments, **environment)

    async def _spawn(self, *command: str, cwd: Path | None = None, **environment: str) -> Any:
        process = await asyncio.create_subprocess_exec(
            *command,
            cwd=cwd,
            env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
            stdin=asyncio.subprocess.PIPE,  # by its end a program may learn that we are gone
            stdout=asyncio.subprocess.PIPE,
        )
        self._process = process
        return process.stdout

    async def _listens(self) -> bool:
        assert self._process is not None
        if self._process.returncode is not None:
            raise RuntimeError(f"{self.program.name} ended before it listened")
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        except OSError:
            return False
        writer.close()
        return True

    async def kill(self) -> None:
        """SIGKILL: nothing is said to anybody."""
        if self._process is not None:
            with suppress(ProcessLookupError):  # it has ended
                self._process.kill()
            await self._process.wait()
            self._process = None

    async def stop(self) -> None:
        """End its stdin: the program closes its connections properly, and ends."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self.kill()

    async def __aenter__(self) -> Server:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.kill()


class Example(Server):
    """An example's folder, started from within by the command that its README gives."""

    README_PORT = "8000"

    async def _run(self, *arguments: str, **environment: str) -> Any:
        readme = (self.program / "README.md").read_text(encoding="utf-8")
        _install, command = re.findall(r"^    (\S.*)$", readme, re.M)
        words = shlex.split(command.replace(self.README_PORT, str(self.port)))
        return await self._spawn(
            *("env", *words),  # the first words may set variables
            cwd=self.program,
            PATH=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            CHAT_SECRET="kept over all its lives",
        )


class App(Server):
    """page_app.py, with these fields of Config; `facts` holds what it told over all its lives."""

    def __init__(self, **config: Any) -> None:
        super().__init__(HERE / "page_app.py")
        self.facts = Log()
        self._config = json.dumps(config)
        self._reader: asyncio.Task[None] | None = None

    async def start(self) -> None:
        seen = len(self.facts)
        stdout = await self._run(str(self.port), self._config)
        self._reader = asyncio.create_task(self._read(stdout))
        fact = await self.facts.until(lambda fact: fact[0] in ("listening", "ended"), seen)
        if fact[0] == "ended":
            raise RuntimeError("page_app.py ended before it listened")

    async def _read(self, stdout: Any) -> None:
        while line := await stdout.readline():
            self.facts.add(json.loads(line))
        self.facts.add(["ended"])

    async def kill(self) -> None:
        await super().kill()
        if self._reader is not None:
            await self._reader
            self._reader = None

    async def __aenter__(self) -> App:
        await self.start()
        return self

    def marks(self, client_id: str) -> list[int]:
        """The numbers that came from this client, in the order in which they came.

        What a killed server had handled, and the next one gets marked as redelivered, counts once.
        """
        marks: list[int] = []
        for kind, *fact in self.facts:
            if kind == "mark" and fact[0] == client_id:
                _, number, is_redelivered = fact
                if not (is_redelivered and number in marks):
                    marks.append(number)
        return marks
