from typing import final

from chansock._fast.events.server_protocol import Protocol
from chansock._fast.io.transport import Link

@final
class Echo(Link):
    def __new__(cls, protocol: Protocol) -> Echo: ...
    def drained(self) -> None: ...
