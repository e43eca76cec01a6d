from typing import final

from chansock._fast.connection import Protocol
from chansock._fast.fanout import Link

@final
class Echo(Link):
    def __new__(cls, protocol: Protocol) -> Echo: ...
    def drained(self) -> None: ...
