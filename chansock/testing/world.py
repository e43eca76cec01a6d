"""A channel with clients and without sockets, in virtual time.

    def test_what_is_said_is_heard(chsk):
        with testing.World(chsk) as world:
            alice = world.connect(uid="alice")
            bob = world.connect(uid="bob", transport="ajax")
            alice.send("chat/say", {"text": "hi"})
            assert bob.expect("chat/said") == {"from": "alice", "text": "hi"}
            assert alice.send("math/double", 21, timeout=5) == 42

It drives the channel's endpoint as an edge does: everything above the sockets is real,
also handlers that wait, and the application's hooks. No socket, HTTP or frame is in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, MutableMapping
from dataclasses import replace
from inspect import isawaitable
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeAlias, TypeVar, get_args

from chansock import packers
from chansock._core.endpoint import Admission, Endpoint
from chansock.channel import ChannelSocket
from chansock.errors import ConfigError
from chansock.request import Request, Response
from chansock.target import ANONYMOUS, UserId, _Anonymous, is_user_id
from chansock.testing.ajax import AjaxClient
from chansock.testing.blame import Blame
from chansock.testing.client import UID, Pairs, WorldClient, pairs
from chansock.testing.loop import VirtualTimeLoop
from chansock.testing.network import Delay
from chansock.testing.resume import Resumption
from chansock.testing.ws import WsClient

__all__ = ["Transport", "World", "user_id"]

T = TypeVar("T")
E = TypeVar("E", bound=BaseException)
Transport: TypeAlias = Literal["ws", "ajax"]


def user_id(request: Request) -> UserId | None:
    """A `user_id` hook: the uid that the test gave its client (`world.ws(uid="alice")`).

    For channels that a test makes itself; an application keeps its own hook.
    """
    uid: UserId | None = request.state.get(UID)
    return uid


class World:
    """Start a channel on a loop in virtual time; `with` starts and stops it.

    Between calls nothing moves: `turn` ends the loop's turn (pushes go out at its end),
    `advance` lets time pass, and so do a client's `expect` and `send` with a timeout. The
    channel's own methods may be called as they are. `transport` is what `connect` uses by
    default; `packer` is the clients', by default the channel's.

    The end of the `with` raises what a handler or hook raised, so that the test fails, unless it
    was the cause of an error that the test got: of a ReplyError, say. If the failure is what you
    test, take it out of `errors`, or pass `raise_handler_errors=False`.
    """

    def __init__(
        self,
        chsk: ChannelSocket,
        *,
        transport: Transport = "ws",
        packer: packers.Packer | None = None,
        path: str = "/chsk",
        raise_handler_errors: bool = True,
    ) -> None:
        if not isinstance(chsk, ChannelSocket):
            raise ConfigError(f"chsk: expected a ChannelSocket, got {chsk!r:.80}")
        self.chsk = chsk
        self.transport: Transport = _transport(transport)
        self.packer = chsk.packer if packer is None else packer
        self.path = path
        self.raise_handler_errors = raise_handler_errors
        self.loop: VirtualTimeLoop = VirtualTimeLoop()
        self.clients: list[WorldClient] = []  # all that `connect`, `ws` and `ajax` made
        self.network: Delay = Delay()  # of clients to come
        self._blame = Blame()
        self._door: Endpoint | None = None
        self._count = 0

    def __enter__(self) -> Self:
        try:
            self.loop.run(self.chsk.__aenter__())
        except BaseException:
            self.loop.end()
            raise
        self._blame.begin()
        self._door = endpoint = self.chsk._endpoint
        endpoint.hooks = replace(endpoint.hooks, user_id=_before(endpoint.hooks.user_id))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            self.loop.run(self.chsk.__aexit__(kind, error, trace))
            self.turn()
        finally:
            self._blame.end()
            self.loop.end()
        unseen = self._blame.unseen() if kind is None and self.raise_handler_errors else []
        if unseen:
            raise self._failure(unseen)

    @staticmethod
    def _failure(errors: list[BaseException]) -> BaseException:
        """Return what handlers and hooks raised, as one exception."""
        if len(errors) == 1:
            error = errors[0]
        else:
            error = BaseExceptionGroup(f"{len(errors)} handlers or hooks raised", errors)
        error.add_note(
            "raised in a handler or hook of the channel, and answered with an error: a test that "
            "expects it takes it out of `world.errors`, or passes raise_handler_errors=False"
        )
        return error

    # -- time

    @property
    def now(self) -> float:
        """The time in seconds, from any origin."""
        return self.loop.time()

    def turn(self) -> None:
        """End the loop's turn: run what is ready and what that makes ready; no time passes."""
        self.loop.advance(0)

    def advance(self, seconds: float) -> None:
        """Advance the clock: everything due by then happens, in order, each at its time."""
        self.loop.advance(seconds)

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, letting as much time pass as it waits for."""
        return self.loop.run(coro)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Wait for handlers in threads until `is_so()`; no virtual time passes."""
        self.loop.until(is_so)

    def inside(self, call: Callable[[], T]) -> T:
        """Call with the loop running, as a callback; no turn passes."""
        return self.loop.inside(call)

    # -- the network

    def delay(
        self, seconds: float = 0.0, *, up: float | None = None, down: float | None = None
    ) -> None:
        """Delay everything between the clients and the channel.

        What is sent to the channel arrives `up` seconds later, what it sends `down`; by
        default both `seconds`, and 0 ends it. For the clients that are there and for those to
        come; `WorldClient.delay` is for one.
        """
        for client in self.clients:
            client.delay(seconds, up=up, down=down)
        self.network = Delay(seconds if up is None else up, seconds if down is None else down)

    # -- what went wrong

    @property
    def errors(self) -> list[BaseException]:
        """What handlers and hooks raised so far, oldest first: it was logged and answered.

        What is left in this list at the end of the `with` fails the test: see World.
        """
        return self._blame.errors

    def _blamed(self, error: E) -> E:
        """Return an error with what the channel logged before, as its notes and its cause."""
        return self._blame.told(error)

    # -- clients

    def connect(
        self,
        uid: UserId | _Anonymous | None = None,
        *,
        transport: Transport | None = None,
        client_id: str | None = None,
        params: Pairs = (),
        headers: Pairs = (),
        cookies: Pairs = (),
        csrf_token: str | None = None,
        scope: MutableMapping[str, Any] | None = None,
        resumes: bool | Resumption = False,
    ) -> WorldClient:
        """Connect a client. Raises HandshakeRefused if it is not let in.

        The application's hooks run as in life: they see `params` (of the query, with each
        request), `headers`, `cookies`, the `csrf_token`, and in `request.scope` what ASGI
        middleware would have put there (`{"session": {...}}`). Whoever is given a `uid` is that
        user (ANONYMOUS: nobody), and `user_id` is not asked; the other hooks are. With `resumes`
        it comes back as chansock's own clients do, and without as Sente's; given the `resumption`
        of a client of an earlier World, it goes on as that client. Host and
        Origin are allowed ones (`Config.allowed_hosts`, `allowed_origins`) unless given.
        """
        __tracebackhide__ = True
        _check_uid(uid)
        kind = self.transport if transport is None else _transport(transport)
        query, fields = pairs(params), self._with_origin(pairs(headers))
        if given := pairs(cookies):
            fields.append(("Cookie", "; ".join(f"{name}={value}" for name, value in given)))
        if csrf_token is not None and kind == "ws":
            query.append(("csrf-token", csrf_token))
        elif csrf_token is not None:
            fields.append(("X-CSRF-Token", csrf_token))
        make = WsClient if kind == "ws" else AjaxClient
        identity = client_id or self._client_id()
        client = make(self, identity, query, fields, uid, scope, resumes=resumes)
        client.connect()
        self.clients.append(client)
        return client

    def ws(
        self,
        uid: UserId | _Anonymous | None = None,
        *,
        client_id: str | None = None,
        params: Pairs = (),
        headers: Pairs = (),
        resumes: bool | Resumption = False,
    ) -> WsClient:
        """Connect a WebSocket client, as `connect` does, and show its socket."""
        __tracebackhide__ = True
        _check_uid(uid)
        identity = client_id or self._client_id()
        client = WsClient(self, identity, params, headers, uid, resumes=resumes)
        client.connect()
        self.clients.append(client)
        return client

    def ajax(
        self,
        uid: UserId | _Anonymous | None = None,
        *,
        client_id: str | None = None,
        params: Pairs = (),
        headers: Pairs = (),
        is_polling: bool = True,
        resumes: bool | Resumption = False,
    ) -> AjaxClient:
        """Connect an Ajax client, as `connect` does, and show its requests.

        A handshake, then a poll that is parked, and so on. `is_polling` False: only the
        handshake; the test polls by itself.
        """
        __tracebackhide__ = True
        _check_uid(uid)
        identity = client_id or self._client_id()
        client = AjaxClient(self, identity, params, headers, uid, resumes=resumes)
        client.connect() if is_polling else client.shake_hands()
        self.clients.append(client)
        return client

    def request(self, client_id: str, *, params: Pairs = (), headers: Pairs = ()) -> Request:
        """Make the GET of a handshake, for a test that admits by itself."""
        return WsClient(self, client_id, params, headers, None).handshake_request()

    def _with_origin(self, fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """Add what a page of an allowed site would send, unless the test says it."""
        names = {name.lower() for name, _ in fields}
        config = self.chsk.config
        if "host" not in names and (host := _exact(config.allowed_hosts)):
            fields.append(("Host", host))
        if not names & {"origin", "referer"} and (origin := _exact(config.allowed_origins)):
            fields.append(("Origin", origin))
        return fields

    def _client_id(self) -> str:
        self._count += 1
        return f"client-{self._count}"

    # -- for clients

    @property
    def _endpoint(self) -> Endpoint:
        """The channel's door, also after its stop. Raises ChannelClosed before the start."""
        return self.chsk._endpoint if self._door is None else self._door

    def _pass_delay(self, seconds: float) -> None:
        """Advance by the network's delay; nothing moves if there is none."""
        if seconds:
            self.loop.advance(seconds)

    def _new_cb_id(self) -> str:
        """A callback id, six hex digits as Sente's."""
        self._count += 1
        return f"{self._count:06x}"

    def _udt(self) -> str:
        """The time in ms as clients send it, a new one each time."""
        self._count += 1
        return str(int(self.now * 1000) * 1000 + self._count)

    def _admit(self, request: Request, *, is_upgrade: bool = False) -> Admission | Response:
        """Have the endpoint check a request; hooks that wait get the time that they need."""
        result = self.inside(lambda: self._endpoint.admit(request, is_upgrade=is_upgrade))
        if isawaitable(result):
            return self.run(_wait(result))
        return result

    async def _admitted(self, request: Request) -> Admission | Response:
        """The same for a client that goes on by itself."""
        result = self._endpoint.admit(request, is_upgrade=False)
        return await result if isawaitable(result) else result


async def _wait(awaitable: Awaitable[T]) -> T:
    return await awaitable


class Connect(Protocol):
    """What the fixture `chsk_connect` gives: `World.connect`."""

    def __call__(
        self,
        uid: UserId | _Anonymous | None = None,
        *,
        transport: Transport | None = None,
        client_id: str | None = None,
        params: Pairs = (),
        headers: Pairs = (),
        cookies: Pairs = (),
        csrf_token: str | None = None,
        scope: MutableMapping[str, Any] | None = None,
    ) -> WorldClient: ...


def _before(hook: Callable[[Request], Any] | None) -> Callable[[Request], Any]:
    """Return a `user_id` hook: who the test says it is, else who the application's hook says."""

    def user_id(request: Request) -> Any:
        if UID in request.state:
            return request.state[UID]
        return None if hook is None else hook(request)

    return user_id


def _check_uid(uid: object) -> None:
    if uid is not None and uid is not ANONYMOUS and not is_user_id(uid):
        raise ConfigError(f"uid: expected a user id, ANONYMOUS or None, got {uid!r:.80}")


def _transport(name: str) -> Transport:
    if name not in get_args(Transport):
        raise ConfigError(f"transport: expected 'ws' or 'ajax', got {name!r:.80}")
    return name  # type: ignore[return-value]


def _exact(allowed: tuple[str, ...] | None) -> str | None:
    return next((name for name in allowed or () if "*" not in name), None)
