"""The servers that carry a channel, each as a process of its own with the same application.

A server is one entry of SERVERS: its command, and what it cannot do, by name, with the
reason. A test that needs such a thing says `served.needs("...")`, and is skipped there.
No test here.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass, field
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import IO, Any

import pytest
from chance_balancer import ChanceBalancer, in_thread
from dist_content import ROOT
from peer import Answer, Peer, urlencoded
from readme_pair import free_port, wait_for

SUPPORT = Path(__file__).parent.parent
FAULTS = re.compile(
    r"in ASGI (application|Framework)|inside application|was destroyed but"
    r"|never (retrieved|awaited)|chansock/asgi"
)
CHANNELS = ("chsk", "quick", "packed")  # what each is for: application.py
_numbers = count(1)


@dataclass(frozen=True, slots=True)
class Server:
    """How a server is started. In the command `{chsk}`, `{quick}` and `{packed}` are ports.

    `one_port`: all channels are on `{chsk}`, at paths of their own. `needs`: a module without
    which it is skipped. `cannot`: what it cannot do, and why.
    """

    command: str  # what follows `python -m`
    needs: str = ""
    one_port: bool = True
    has_own_sockets: bool = True  # the application has WebSockets at other paths
    # Several share a Redis, and a balancer sends each request to one of them by chance.
    processes: int = 1
    # What stands for a code of RFC 6455, and for a reason, that it cannot send; else None.
    closes_as: int | None = None
    cannot: Mapping[str, str] = field(default_factory=dict)


SERVERS: dict[str, Server] = {
    "standalone": Server(
        "servers.alone {chsk} {quick} {packed}", one_port=False, has_own_sockets=False
    ),
    "two-workers": Server(
        "servers.alone {chsk} {quick} {packed}",
        one_port=False,
        has_own_sockets=False,
        processes=2,
        cannot={
            "packets": "pushes come back from the engine, where those of one turn share a packet",
        },
    ),
    "uvicorn": Server(
        "uvicorn servers.application:asgi --port {chsk} --log-level warning --lifespan on",
        needs="uvicorn",
    ),
    "uvicorn-fast": Server(
        "uvicorn servers.application:asgi --port {chsk} --log-level warning --lifespan on "
        "--ws chansock.uvicorn:WebSocketProtocol",
        needs="uvicorn",
    ),
    "hypercorn": Server(
        "hypercorn servers.application:asgi --bind 127.0.0.1:{chsk} --workers 0",
        needs="hypercorn",
        cannot={"close_code": "tells every end of a peer's socket as 1006, in order or not"},
    ),
    "granian": Server(
        "granian --interface asgi --port {chsk} --log-level warning servers.application:asgi",
        needs="granian",
        cannot={"stop": "drops its WebSockets at the signal, in a race with the application"},
    ),
    "daphne": Server(
        "daphne -v 0 -p {chsk} servers.application:asgi",
        needs="daphne",
        closes_as=1000,
        cannot={"refusal": "refuses a socket with 403 alone, whatever the application says"},
    ),
    "aiohttp": Server("servers.in_aiohttp {chsk}", needs="aiohttp"),
}


@dataclass(frozen=True, slots=True)
class Served:
    """A server that runs, and how a raw peer comes to it: by `ports`, as from outside.

    `own_ports` are those of each process.
    """

    name: str
    server: Server
    ports: dict[str, int]
    own_ports: list[dict[str, int]]
    processes: list[subprocess.Popen[bytes]]
    output: IO[bytes]

    def needs(self, what: str) -> None:
        """Skip the test where the server cannot do that."""
        if what in self.server.cannot:
            pytest.skip(f"{self.name}: {self.server.cannot[what]}")

    def closes(self, code: int, reason: str = "") -> tuple[int, str]:
        """Return the code and the reason with which a socket is closed here."""
        other = self.server.closes_as
        if other is None:
            return code, reason
        return (code if code == 1000 or code >= 3000 else other), ""

    def log(self) -> str:
        """What it has printed so far."""
        self.output.seek(0)
        return self.output.read().decode(errors="replace")

    @asynccontextmanager
    async def peer(self, channel: str = "chsk") -> AsyncIterator[Peer]:
        async with await Peer.connect(self.ports[channel]) as found:
            yield found

    @asynccontextmanager
    async def socket(
        self, client_id: str, channel: str = "chsk", **params: str
    ) -> AsyncIterator[Peer]:
        """A WebSocket whose handshake was read."""
        async with self.peer(channel) as found:
            answer = await found.upgrade(target(client_id, channel, **params))
            assert answer.status == 101, answer
            handshake = await found.text()
            assert handshake.startswith("[[:chsk/handshake ["), handshake
            yield found

    async def shake(self, peer: Peer, client_id: str, channel: str = "chsk") -> None:
        """Shake hands over Ajax."""
        answer = await peer.ask("GET", target(client_id, channel, **{"handshake?": "1"}))
        assert answer.status == 200, answer
        assert answer.text.startswith("[[:chsk/handshake ["), answer

    async def ask(self, event: str, channel: str = "chsk") -> str:
        """Send a request by a POST of a client of its own; return the packet that answers."""
        async with self.peer(channel) as found:
            answer = await post(found, who("asker"), f"[{event} :ajax]", channel)
            assert answer.status == 200, answer
            return answer.text

    async def until(self, event: str, expected: str, channel: str = "chsk") -> None:
        """Ask again and again until the answer is this; the test's own limit ends it."""
        while await self.ask(event, channel) != expected:
            pass

    async def ask_all(self, event: str, channel: str = "chsk") -> list[str]:
        """Ask each process, as `ask` does; return what they answer."""
        answers = []
        for ports in self.own_ports:
            async with await Peer.connect(ports[channel]) as found:
                answer = await post(found, who("asker"), f"[{event} :ajax]", channel)
                assert answer.status == 200, answer
                answers.append(answer.text)
        return answers

    async def until_all(self, event: str, expected: str, channel: str = "chsk") -> None:
        """Ask until all processes answer this."""
        while {*await self.ask_all(event, channel)} != {expected}:
            pass

    async def count(self, name: str, channel: str = "chsk") -> int:
        """Return a number of the channel's `stats`, of all processes: `lost.too_slow`."""
        answers = await self.ask_all(f'[:served/stat "{name}"]', channel)
        return sum(int(answer.removeprefix("[").removesuffix(" nil]")) for answer in answers)

    async def until_count(self, name: str, expected: int, channel: str = "chsk") -> None:
        while await self.count(name, channel) != expected:
            pass

    def faults(self) -> list[str]:
        """The lines of its log that tell of a fault of the application, or of ours."""
        return [line for line in self.log().splitlines() if FAULTS.search(line)]


def who(name: str) -> str:
    """Return a client-id that no other test has; what stands before its `/` is the user."""
    return f"{name}{next(_numbers)}/{os.getpid()}"


def user(client_id: str) -> str:
    return client_id.partition("/")[0]


def target(client_id: str, channel: str = "chsk", **params: str) -> str:
    return f"/{channel}?" + urlencoded([("client-id", client_id), *params.items()])


async def post(
    peer: Peer, client_id: str, packet: str, channel: str = "chsk", **more: str
) -> Answer:
    fields = [("udt", "2"), ("client-id", client_id), ("ppstr", packet), *more.items()]
    return await peer.post_form(f"/{channel}", fields)


@contextmanager
def started(name: str, **config: Any) -> Iterator[Served]:
    """Start a server and wait until it listens; kill it in the end if it still runs.

    `config` are fields of Config for its channels.
    """
    server = SERVERS[name]
    if server.needs and find_spec(server.needs) is None:
        pytest.skip(f"{server.needs} is not installed")
    with ExitStack() as stack:
        output = stack.enter_context(tempfile.TemporaryFile())
        environment: dict[str, Any] = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(SUPPORT)]),
            "PYTHONUNBUFFERED": "1",
            "SERVED_CONFIG": json.dumps(config),
        }
        if server.processes > 1:
            import redis_server  # which needs redis-py

            environment["SERVED_BACKPLANE"] = stack.enter_context(redis_server.Server()).url
        all_ports = [_ports(server) for _ in range(server.processes)]
        processes: list[subprocess.Popen[bytes]] = []
        stack.callback(_kill, processes)
        for ports in all_ports:
            command = [sys.executable, "-m", *server.command.format(**ports).split()]
            processes.append(
                subprocess.Popen(
                    command, env=environment, stdout=output, stderr=output, start_new_session=True
                )
            )
        ports = all_ports[0]
        if server.processes > 1:
            each = [[ports[channel] for ports in all_ports] for channel in CHANNELS]
            balancers = [ChanceBalancer(of_channel, seed=1) for of_channel in each]
            ports = dict(zip(CHANNELS, stack.enter_context(in_thread(balancers)), strict=True))
        served = Served(name, server, ports, all_ports, processes, output)
        try:
            for process, own in zip(processes, all_ports, strict=True):
                for port in own.values():
                    wait_for(port, process)
            yield served
        except BaseException:
            print(served.log())
            raise


def _ports(server: Server) -> dict[str, int]:
    chsk = free_port()
    return {each: chsk if server.one_port else free_port() for each in CHANNELS}


def _kill(processes: list[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # its workers, too
        process.wait()
