from asyncio import BaseTransport
from collections.abc import Callable
from types import ModuleType
from typing import Any, final

from typing_extensions import disjoint_base

from chansock._fast.io.socket import Socket
from chansock._fast.io.timers import TimerQueue
from chansock._fast.io.transport import Incoming, Link, Transport
from chansock.clock import Clock
from chansock.config import Config
from chansock.request import Request

@final
class Service:
    is_loopback: bool
    endpoint: Any
    clock: Clock
    def __new__(
        cls,
        endpoint: Any,
        clock: Clock,
        timers: TimerQueue,
        config: Config,
        *,
        path: str | None,
        fallback: Callable[[Request], Any] | None,
        http1: ModuleType,
        forwarded: Callable[[Request, Protocol], object] | None = None,
        extensions: Any = None,
        answered: Callable[[Request, int], object] | None = None,
        is_single: bool = False,
        gone: Callable[[Any], object] | None = None,
        incoming: Incoming | None = None,
    ) -> Service: ...
    def __len__(self) -> int: ...
    def stop(self, when_empty: Callable[[], object]) -> None: ...
    def go_on(self) -> None: ...
    def abort(self) -> None: ...

@disjoint_base
class Answer(Transport):
    def __new__(cls, protocol: Protocol) -> Answer: ...

@disjoint_base
class Protocol(Socket):
    data_received: None
    def __new__(cls, service: Service) -> Protocol: ...
    def connection_made(self, transport: BaseTransport) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def peer(self) -> tuple[str, int] | None: ...
    def resume_writing(self) -> None: ...
    def shutdown(self) -> None: ...
    def expired(self) -> None: ...
    def go_on(self) -> None: ...
    def cut(self) -> None: ...

@final
class Echo(Link):
    def __new__(cls, protocol: Protocol) -> Echo: ...
    def drained(self) -> None: ...
