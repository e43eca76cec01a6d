"""What the clients of a World have in common: who they are, what they ask, what arrived.

They hand packets to the channel's endpoint as an edge does, and read what comes back,
one step at a time. No transport here: `ws` and `ajax` are the two ways.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import quote

from chansock.request import Request, Response
from chansock.values import Keyword

if TYPE_CHECKING:
    from chansock.testing.world import World

__all__ = ["Client", "Event", "Handshake", "Pairs", "Reply"]

Pairs: TypeAlias = Iterable[tuple[str, str]]


class Event(NamedTuple):
    """A push as it arrived: equal to the tuple `(id, data)`."""

    id: str
    data: Any = None


class Handshake(NamedTuple):
    """What the server said first. `uid` is `Keyword("sente/nil-uid")` without a user."""

    uid: Any
    data: Any


class Reply:
    """What will come back for an event that asked for a reply."""

    __slots__ = ("_values", "status")

    def __init__(self) -> None:
        self._values: list[Any] = []
        self.status: int | None = None  # over Ajax: of the POST

    @property
    def is_here(self) -> bool:
        return bool(self._values)

    @property
    def value(self) -> Any:
        """The reply. Raises LookupError if there is none."""
        if not self._values:
            raise LookupError(f"expected a reply, got none yet (status {self.status})")
        return self._values[0]

    def arrive(self, value: Any) -> None:
        self._values.append(value)


class Client:
    """What both kinds have: who they are, and what arrived."""

    def __init__(
        self, world: World, client_id: str, params: Pairs, headers: Pairs, uid: Any
    ) -> None:
        self.world = world
        self.client_id = client_id
        self.handshake: Handshake | None = None  # the newest
        self.events: list[Event] = []
        self._params = [("client-id", client_id), *params]
        self._headers = list(headers)
        self._uid = uid

    def take(self) -> list[Event]:
        """Give the events that arrived, and forget them."""
        events, self.events = self.events, []
        return events

    def _request(self, method: str, params: Pairs = (), headers: Pairs = ()) -> Request:
        target = f"{self.world.path}?{urlencoded(params)}" if params else self.world.path
        fields = [("Host", "localhost"), *self._headers, *headers]
        request = Request.from_fields(method, target, fields, client=("127.0.0.1", 50000))
        if self._uid is not None:
            request.state["uid"] = self._uid
        return request

    def _event(self, event_id: str, data: Any, cb_id: Any) -> bytes:
        event = [Keyword(event_id)] if data is None else [Keyword(event_id), data]
        return self.world.packer.packet(event, cb_id)

    def _take_batch(self, batch: list[list[Any]]) -> None:
        self.events += [Event(*event) for event in batch]


def is_handshake(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] == "chsk/handshake"


def as_bytes(packet: bytes | str) -> bytes:
    return packet.encode() if isinstance(packet, str) else packet


def text_of(response: Response | None) -> str:
    if response is None:
        return ""
    return response.body if isinstance(response.body, str) else response.body.decode()


def urlencoded(pairs: Pairs) -> str:
    return "&".join(f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in pairs)
