from asyncio import BaseTransport
from collections.abc import Callable
from types import ModuleType
from typing import Any, final

from chansock._fast.fanout import Transport
from chansock._fast.socket import Socket
from chansock._fast.sweep import Sweep
from chansock.clock import Clock
from chansock.config import Config
from chansock.request import Request

@final
class Service:
    endpoint: Any
    clock: Clock
    def __init__(
        self,
        endpoint: Any,
        clock: Clock,
        sweep: Sweep,
        config: Config,
        *,
        path: str,
        fallback: Callable[[Request], Any] | None,
        http1: ModuleType,
    ) -> None: ...
    def __len__(self) -> int: ...
    def stop(self, when_empty: Callable[[], object]) -> None: ...
    def abort(self) -> None: ...

class Reply(Transport):
    def __init__(self, protocol: Protocol) -> None: ...

class Protocol(Socket):
    def __init__(self, service: Service) -> None: ...
    def connection_made(self, transport: BaseTransport) -> None: ...
    def eof_received(self) -> bool: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def resume_writing(self) -> None: ...
    def expired(self) -> None: ...
