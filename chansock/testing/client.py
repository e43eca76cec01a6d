"""What the clients of a World have in common: who they are, what they ask, what arrived.

They hand packets to the channel's endpoint as an edge does, and read what comes back,
one step at a time. No transport here: `ws` and `ajax` are the two ways.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias
from urllib.parse import quote

from chansock._core import wire
from chansock._core.event import check_handled_id, event_of
from chansock.errors import ChannelClosed, ReplyError, ReplyTimeout
from chansock.request import Request, Response
from chansock.target import ANONYMOUS, UserId
from chansock.testing.network import Delay, Lane
from chansock.testing.resume import Resumption, Was
from chansock.values import NO_DATA, Keyword

if TYPE_CHECKING:
    from chansock.testing.world import World

__all__ = ["UID", "Handshake", "Pairs", "PendingReply", "ReceivedEvent", "WorldClient", "pairs"]

Pairs: TypeAlias = Mapping[str, str] | Iterable[tuple[str, str]]

UID = "chansock.testing.uid"  # in a request's state: the user that the test says it is
WITHIN = 5.0  # seconds of virtual time; a handler that sleeps a little is still in time


class ReceivedEvent(NamedTuple):
    """A push as it arrived: equal to the tuple `(id, data)`."""

    id: str
    data: Any = None


class Handshake(NamedTuple):
    """What the server said first. `uid` is `Keyword("sente/nil-uid")` without a user."""

    uid: Any
    data: Any


class PendingReply:
    """What will come back for an event that asked for a reply."""

    __slots__ = ("_client", "_event_id", "_values", "cb_id", "response", "status")

    def __init__(self, client: WorldClient, event_id: str) -> None:
        self._client = client
        self._event_id = event_id
        self._values: list[Any] = []
        self.cb_id: str | None = None  # over a WebSocket
        self.status: int | None = None  # over Ajax: of the POST
        self.response: Response | None = None  # over Ajax: what refused it

    @property
    def is_here(self) -> bool:
        """Whether it has come."""
        return bool(self._values)

    @property
    def value(self) -> Any:
        """The reply that has come; `Keyword("chsk/error")` if the handler failed, and
        `[Keyword("chsk/error"), why]` if it could not take the data.

        Raises LookupError if there is none yet: see `wait`.
        """
        if not self._values:
            raise LookupError(f"expected a reply, got none yet (status {self.status})")
        return self._values[0]

    @property
    def why(self) -> str | None:
        """Why the handler could not take the data, if that is the reply."""
        value = self.value
        is_why = isinstance(value, list) and len(value) == 2 and value[0] == wire.ERROR
        return str(value[1]) if is_why and isinstance(value[0], Keyword) else None

    def wait(self, timeout: float = WITHIN) -> Any:
        """Return the reply, letting virtual time pass until it is here.

        Raises ReplyTimeout after `timeout` seconds of it, over Ajax also after
        `Config.poll_timeout`, which ends its POST; ReplyError if the handler failed, or
        the POST was refused; ChannelClosed if the connection has ended without it.
        """
        __tracebackhide__ = True
        client, event_id = self._client, self._event_id
        client.world.loop.advance_until(self._is_decided, timeout)
        error: Exception
        if self._values:
            value = self._values[0]
            if self.why is not None or value == wire.ERROR:
                error = ReplyError(f"expected a reply to {event_id}, got {wire.ERROR}", self.why)
            elif value == wire.TIMEOUT:
                error = ReplyTimeout(f"expected a reply to {event_id}, got {value}")
            else:
                return value
        elif self.status is not None:
            text = text_of(self.response)
            error = ReplyError(f"expected a reply to {event_id}, got {self.status} {text}")
        elif not client._awaits(self):
            error = ChannelClosed(f"expected a reply to {event_id}, got a break: {client!r}")
        else:
            error = ReplyTimeout(f"expected a reply to {event_id} within {timeout:g} s, got none")
        raise client.world._blamed(error)

    def _is_decided(self) -> bool:
        return self.is_here or self.status is not None or not self._client._awaits(self)

    def arrive(self, value: Any) -> None:
        """Take what came, for the client."""
        self._values.append(value)


class WorldClient(ABC):
    """A client in a World; `World.connect` makes it, on a WebSocket or on Ajax.

    The words are the same on both transports. `send` and `ask` go out at once; what the
    channel pushes arrives while time passes. `expect`, `PendingReply.wait`, and `send` with a
    timeout let as much of it pass as they need, `World.turn` and `World.advance` what they are
    told.
    """

    def __init__(
        self,
        world: World,
        client_id: str,
        params: Pairs,
        headers: Pairs,
        uid: Any,
        scope: MutableMapping[str, Any] | None = None,
        *,
        resumes: bool | Resumption = False,
    ) -> None:
        self.world = world
        self.client_id = client_id
        self.handshake: Handshake | None = None  # the newest
        self.events: list[ReceivedEvent] = []  # that arrived, and were not taken yet
        self.breaks = 0  # how often its connection has ended, by whom ever
        self.close_code: int | None = None  # of the last socket; 1006: cut
        self.is_lagging: bool = False
        self.network: Delay = world.network
        # As chansock's own clients; None: as Sente's.
        self.resumption: Resumption | None = None
        if resumes:
            self.resumption = resumes if isinstance(resumes, Resumption) else Resumption()
        given = pairs(params)
        # As chansock's own clients: a refusal of data comes with its reason.
        why = [] if any(name == wire.WHY for name, _ in given) else [(wire.WHY, "1")]
        self._params = [("client-id", client_id), *given, *why]
        self._headers = pairs(headers)
        self._uid = uid
        self._scope = scope
        self._up = Lane(world.loop)
        self._down = Lane(world.loop)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.client_id!r} uid={self.uid!r} {self.state}>"

    # -- looking

    @property
    def uid(self) -> UserId | None:
        """The user that the server took it for; None: anonymous, or no handshake yet."""
        if self.handshake is None or self.handshake.uid == wire.NIL_UID:
            return None
        uid: UserId = self.handshake.uid
        return uid

    @property
    def was(self) -> Was | None:
        """How its newest connection came back: "fresh", "resumed", or "gap"; None if it does not
        resume."""
        return None if self.resumption is None else self.resumption.was

    @property
    @abstractmethod
    def is_open(self) -> bool:
        """Whether it has a connection, as far as it knows."""

    @property
    def state(self) -> str:
        """Open, or why not, in words."""
        if self.is_open:
            return "open"
        return "closed" if self.close_code is None else f"closed ({self.close_code})"

    # -- sending

    @abstractmethod
    def send(self, event_id: str, data: Any = NO_DATA, *, timeout: float | None = None) -> Any:
        """Send an event; with a timeout, ask for a reply and give it.

        Without `data` the event is `[event_id]`; None is data, and written as nil.
        The words of a real client, in virtual time; the errors are those of `PendingReply.wait`.
        Raises InvalidEvent for an id without a namespace, or in `chsk`; ChannelClosed on a
        WebSocket that is closed. What no real client sends, `WsClient.feed` and `AjaxClient.post`
        hand in as a packet: `world.ws("eve").feed('[[:chsk/forged 1] nil]')`.
        """

    @abstractmethod
    def ask(self, event_id: str, data: Any = NO_DATA) -> PendingReply:
        """Send an event that asks for a reply, and go on: `PendingReply.wait` returns it.

        Raises what `send` does.
        """

    # -- receiving

    def take(self) -> list[ReceivedEvent]:
        """Return the events that arrived, and forget them. No time passes."""
        events, self.events = self.events, []
        return events

    def expect(
        self,
        event_id: str,
        *,
        where: Callable[[Any], object] | None = None,
        within: float = WITHIN,
    ) -> Any:
        """Return the data of the oldest event of this id, and forget that event.

        With `where`, it is the oldest for whose data `where(data)` is true. Lets virtual time pass
        until it is here. Other events stay as they are, before it and after it: `take` has them.
        Raises AssertionError after `within` seconds of it.
        """
        __tracebackhide__ = True
        check_handled_id(event_id)

        def is_it(event: ReceivedEvent) -> bool:
            return event.id == event_id and (where is None or bool(where(event.data)))

        def is_here() -> bool:
            return any(map(is_it, self.events))

        asked = "" if where is None else " that where() is true for,"
        if not self.world.loop.advance_until(is_here, within):
            raise self.world._blamed(
                AssertionError(
                    f"expected {event_id}{asked} within {within:g} s, got {self._got()} "
                    f"(client {self.client_id!r}, {self.state})"
                )
            )
        index = next(i for i, event in enumerate(self.events) if is_it(event))
        return self.events.pop(index).data

    def expect_nothing(self, event_id: str | None = None, *, within: float = 1.0) -> None:
        """Advance `within` seconds of virtual time; nothing may arrive, or none of this id.

        What has arrived and was not taken counts too. Raises AssertionError.
        """
        __tracebackhide__ = True
        if event_id is not None:
            check_handled_id(event_id)

        def has_come() -> bool:
            return any(event_id in (None, event.id) for event in self.events)

        if self.world.loop.advance_until(has_come, within):
            raise AssertionError(
                f"expected no {event_id or 'event'} within {within:g} s, got {self._got()} "
                f"(client {self.client_id!r})"
            )

    def _got(self) -> str:
        if not self.events:
            return "nothing"
        shown = ", ".join(f"{id} {data!r:.80}" for id, data in self.events[:10])
        more = len(self.events) - 10
        return f"[{shown}{f', and {more} more' if more > 0 else ''}]"

    # -- what can happen to its connection

    @abstractmethod
    def close(self, code: int = 1000) -> None:
        """Close in order, as a page that is left."""

    @abstractmethod
    def cut(self) -> None:
        """Break the connection, without a closing handshake: both sides notice at once."""

    def vanish(self) -> None:
        """Lose the network, and nobody is told: nothing arrives any more, either way.

        The server notices when its ping is not answered, or no poll comes.
        """
        self._up.cut()
        self._down.cut()

    @abstractmethod
    def reconnect(self) -> None:
        """Connect again with the same client-id; a connection that is open is cut.

        Raises HandshakeRefused if it is not let in.
        """

    @abstractmethod
    def lag(self) -> None:
        """Stop reading: what the server writes waits, first of all in its outbox."""

    @abstractmethod
    def resume(self) -> None:
        """Read again, what waits first."""

    def delay(
        self, seconds: float = 0.0, *, up: float | None = None, down: float | None = None
    ) -> None:
        """Delay what it sends by `up` seconds, and what it receives by `down`; by default
        both `seconds`. Order is kept; what is under way is not hastened."""
        self.network = Delay(seconds if up is None else up, seconds if down is None else down)

    # -- for both kinds

    @abstractmethod
    def _awaits(self, reply: PendingReply) -> bool:
        """Return whether this reply may still come: no break has ended the wait."""

    def _request(self, method: str, params: Pairs = (), headers: Pairs = ()) -> Request:
        query = pairs(params)
        target = f"{self.world.path}?{urlencoded(query)}" if query else self.world.path
        fields = [*self._headers, *pairs(headers)]
        if not any(name.lower() == "host" for name, _ in fields):
            fields.insert(0, ("Host", "localhost"))
        address = ("127.0.0.1", 50000)
        request = Request.from_fields(method, target, fields, client=address, scope=self._scope)
        if self._uid is not None:
            request.state[UID] = None if self._uid is ANONYMOUS else self._uid
        return request

    def _told(self, value: Any) -> list[tuple[int, bytes]]:
        """Take a handshake; return the events to send again."""
        self.handshake = Handshake(value[1][0], value[1][2])
        return [] if self.resumption is None else self.resumption.came_back(value[1][1])

    def _packet(self, keyword: Keyword, data: Any, cb_id: Any) -> bytes:
        return self.world.packer.packet([*event_of(keyword, data)], cb_id)

    def _take_batch(self, batch: list[list[Any]]) -> None:
        if self.resumption is not None:
            batch = self.resumption.take(batch)
        self.events += [ReceivedEvent(*event) for event in batch]


def is_handshake(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and value[0] == "chsk/handshake"


def as_bytes(packet: bytes | str) -> bytes:
    return packet.encode() if isinstance(packet, str) else packet


def text_of(response: Response | None) -> str:
    if response is None:
        return ""
    return response.body if isinstance(response.body, str) else response.body.decode()


def pairs(given: Pairs) -> list[tuple[str, str]]:
    """Return names and values as a list, from a mapping or from pairs."""
    return list(given.items() if isinstance(given, Mapping) else given)


def urlencoded(given: Pairs) -> str:
    return "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in pairs(given))
