from collections.abc import Awaitable, Callable
from functools import partial
from types import ModuleType
from typing import Any, Final, Generic, final

from typing_extensions import TypeIs, TypeVar

from chansock._fast.events.fanout import Fanout, Fragment, Outbox
from chansock._fast.events.packet import Packer, Packet
from chansock._fast.io.timers import Entry
from chansock._fast.io.transport import Link, Transport
from chansock.channel import ChannelSocket
from chansock.clock import Clock
from chansock.request import Request
from chansock.target import ClientTarget, UserId
from chansock.values import Keyword

_T = TypeVar("_T", default=Any)

def is_awaitable(value: object) -> TypeIs[Awaitable[Any]]: ...

@final
class Later: ...

LATER: Final[Later]

@final
class Route:
    handler: Callable[[EventMsg[Any]], Any]
    is_parallel: bool
    def __init__(
        self, handler: Callable[[EventMsg[Any]], Any], is_parallel: bool = False
    ) -> None: ...

@final
class Replies:
    nbytes: int
    limit: int
    def __init__(self, limit: int) -> None: ...

@final
class Numbers:
    received: int
    acked: int
    since: int
    redelivered: int
    attempt: int
    session: Any  # of the hub
    def __init__(self, received: int, redelivered: int, all_replies: Replies) -> None: ...
    @property
    def nbytes(self) -> int: ...
    def handled_by(self, inbox: Inbox) -> int: ...
    def forget_replies(self, before: int) -> None: ...
    def replies_from(self, since: int) -> list[tuple[int, bytes]]: ...
    def wait(self, number: int, call: partial[bool]) -> partial[bool] | None: ...

@final
class Inbox:
    numbers: Numbers | None
    events: int
    nbytes: int
    waiting: int
    unfinished: int
    def when_room(self, call: Callable[[], object]) -> None: ...
    def forget(self, call: Callable[[], object]) -> None: ...
    @property
    def stalled_count(self) -> int: ...
    def resume(self, dispatch: Dispatch) -> None: ...
    def renewed(self) -> Inbox: ...

@final
class Connection(Link):
    transport: Transport
    outbox: Outbox | None
    inbox: Inbox
    session: Any
    request: Request
    uid: UserId | None
    client_id: str
    timer: Entry | None
    is_post: bool
    is_answered: bool
    packet: bytes | None
    number: int
    @property
    def packet_bytes(self) -> int: ...
    is_ending: bool
    def __init__(
        self,
        dispatch: Dispatch,
        transport: Transport,
        request: Request,
        uid: UserId | None,
        client_id: str,
        session: Any,
        inbox: Inbox,
        is_post: bool = False,
    ) -> None: ...
    def read_on(self) -> None: ...
    def leave(self) -> None: ...
    def keep(self, packet: bytes) -> None: ...
    def let_go(self) -> bytes | None: ...
    def receive(self, view: Any, is_text: bool = True) -> bool: ...
    def corked(self) -> None: ...
    def put(self, packet: Packet) -> None: ...
    def answer(self, packet: Packet) -> bool: ...
    def forget(self) -> None: ...
    @property
    def wants_reply(self) -> bool: ...

class EventMsg(Generic[_T]):
    id: Keyword
    data: _T
    @property
    def _connection(self) -> Connection: ...
    @property
    def uid(self) -> UserId | None: ...
    @property
    def client_id(self) -> str: ...
    @property
    def client(self) -> ClientTarget: ...
    @property
    def request(self) -> Request: ...
    @property
    def chsk(self) -> ChannelSocket: ...
    @property
    def wants_reply(self) -> bool: ...
    @property
    def key(self) -> str | None: ...
    @property
    def is_redelivered(self) -> bool: ...
    def reply(self, value: object = None) -> bool: ...
    def _release(self) -> None: ...
    def _let_end(self) -> None: ...

@final
class Dispatch:
    sender: ChannelSocket
    is_stopping: bool
    is_stopped: bool
    is_spent: bool
    posts: set[Connection]
    strays: set[Connection]
    bad_packet: int
    bad_event: int
    forged: int
    unclaimed_count: int
    unhandled: int
    def __init__(
        self,
        clock: Clock,
        fanout: Fanout,
        packer: Packer,
        *,
        sender: ChannelSocket,
        routes: dict[str, Route],
        own_routes: dict[str, Route],
        unclaimed: Callable[[EventMsg[Any]], bool],
        failed: Callable[[EventMsg[Any], BaseException], object],
        wire: ModuleType,
        max_events: int,
        max_bytes: int,
    ) -> None: ...
    def is_own_thread(self) -> bool: ...
    def leave_unclaimed(self, msg: EventMsg[Any]) -> None: ...
    def ack(self, inbox: Inbox) -> Fragment: ...
    def new_ack(self, inbox: Inbox) -> Packet | None: ...
    def late_reply(self, number: int, packet: bytes) -> Fragment: ...
    def resume(self, inbox: Inbox) -> None: ...
    def go_on(self) -> None: ...
    def settle(self, inbox: Inbox | None, call: Callable[[], object]) -> bool: ...
    def stop(self) -> tuple[int, int]: ...
    def announce(
        self, event_id: str, uid: object, connection: Connection, inbox: Inbox
    ) -> None: ...

async def alone(msg: EventMsg[Any], awaitable: Awaitable[Any]) -> None: ...
async def drain(msg: EventMsg[Any], awaitable: Awaitable[Any]) -> None: ...
def weigh(value: object, most: int = ...) -> int: ...
