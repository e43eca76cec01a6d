"""A raw WebSocket echo: `python -m chansock.testing.echo --port 9001 [--deflate]`.

It answers each message with itself, on any path and for any origin, by the frames and
sockets of the server alone: no packet, no event, no session. For conformance suites and
measurements of the wire; no application is meant to run on it.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from chansock._edge import http1
from chansock._edge.extensions import Extensions
from chansock._edge.sockets import protocol_factory
from chansock._fast.events.server_protocol import Echo, Protocol, Service
from chansock._fast.io.timers import TimerQueue
from chansock.clock import LoopClock, loop_factory
from chansock.config import Compression, Config
from chansock.request import Request, Response
from chansock.server import create_server

__all__ = ["EchoEndpoint", "main", "service"]

MAX_MESSAGE: Final = 64 << 20  # suites send up to 16 MiB
ROOMY: Final = Config(max_message_bytes=MAX_MESSAGE, max_inbox_bytes=MAX_MESSAGE)
# A suite wants to see all that is offered, and short messages deflated too.
EVERY: Final = Compression(threshold=0, client_takeover=True)


@dataclass(frozen=True, slots=True)
class Admission:
    """A WebSocket comes in."""

    kind: str = "ws"


class EchoEndpoint:
    """Admits every WebSocket and nothing else."""

    def admit(
        self, request: Request, *, is_upgrade: bool, is_loopback: bool
    ) -> Admission | Response:
        if is_upgrade:
            return Admission()
        return Response(426, "expected a WebSocket", headers=(("Upgrade", "websocket"),))

    def open(self, admission: Admission, protocol: Protocol) -> Echo:
        return Echo(protocol)

    def drained(self, echo: Echo) -> None:
        echo.drained()

    def closed(self, echo: Echo, code: int) -> None:
        """Nothing is known of an echo that could be forgotten."""

    def settles(self, echo: Echo, call: Callable[[], object]) -> bool:
        """Have nothing to wait for: what is received is sent at once."""
        return False

    def answer_fields(self, request: Request) -> tuple[tuple[str, str], ...]:
        return ()

    def refuse(self, reason: str, status: int, text: str, why: str | None = None) -> Response:
        return Response(status, text)


def service(loop: asyncio.AbstractEventLoop, config: Config | None = None) -> Service:
    """Make what the connections of an echo share."""
    clock = LoopClock(loop)
    if config is None:
        config = ROOMY
    return Service(
        EchoEndpoint(),
        clock,
        TimerQueue(clock),
        config,
        path=None,
        fallback=None,
        http1=http1,
        extensions=Extensions(config),
    )


async def _serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    shared = service(loop, replace(ROOMY, compression=EVERY) if arguments.deflate else ROOMY)
    server = await create_server(
        loop, protocol_factory(loop, shared), arguments.host, arguments.port
    )
    host, port = server.sockets[0].getsockname()[:2]
    print(f"listening on ws://{host}:{port}/", flush=True)  # noqa: T201
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m chansock.testing.echo", description="A raw WebSocket echo."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001, help="0 takes a free one")
    parser.add_argument("--deflate", action="store_true", help="agree on permessage-deflate")
    arguments = parser.parse_args()
    with suppress(KeyboardInterrupt), asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(_serve(arguments))


if __name__ == "__main__":
    main()
