"""A channel with clients and without sockets, in time that is turned by hand.

    chsk = ChannelSocket(user_id=testing.user_id)
    with testing.World(chsk) as world:
        alice = world.ws(uid="alice")
        alice.send("chat/say", {"text": "hi"})
        world.turn()
        assert alice.take() == [("chat/said", {"text": "hi"})]
        world.advance(12.5)
        assert alice.pings == 1

It drives the channel's endpoint as an edge does: everything above the sockets is real,
also handlers that wait. No socket, HTTP or frame is in it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from inspect import isawaitable
from types import TracebackType
from typing import Any, Self, TypeVar

from chansock import packers
from chansock._core.endpoint import Admission, Endpoint
from chansock.channel import ChannelSocket
from chansock.request import Request, Response
from chansock.target import UserId
from chansock.testing.ajax import AjaxClient
from chansock.testing.loop import TurnedLoop
from chansock.testing.ws import WsClient

__all__ = ["World", "user_id"]

T = TypeVar("T")
Pairs = Iterable[tuple[str, str]]


def user_id(request: Request) -> UserId | None:
    """A `user_id` hook: the uid that the test gave its client (`world.ws(uid="alice")`)."""
    uid: UserId | None = request.state.get("uid")
    return uid


class World:
    """Start a channel on a turned loop; `with` starts and stops it.

    Between calls nothing moves: `turn` ends the loop's turn (pushes go out at its end),
    `advance` lets time pass. The channel's own methods may be called as they are.
    `packer` is the clients', by default edn.
    """

    def __init__(
        self, chsk: ChannelSocket, *, packer: packers.Packer | None = None, path: str = "/chsk"
    ) -> None:
        self.chsk = chsk
        self.packer = packers.EDN() if packer is None else packer
        self.path = path
        self.loop = TurnedLoop()
        self._endpoint: Endpoint | None = None
        self._count = 0

    def __enter__(self) -> Self:
        self.loop.run(self.chsk.__aenter__())
        self._endpoint = self.chsk.endpoint
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
            self.loop.run(self.loop.shutdown_asyncgens())
        finally:
            self.loop.close()

    # -- time

    @property
    def now(self) -> float:
        """The time in seconds, from any origin."""
        return self.loop.time()

    def turn(self) -> None:
        """End the loop's turn: run what is ready and what that makes ready; no time passes."""
        self.loop.advance(0)

    def advance(self, seconds: float) -> None:
        """Let time pass: everything due by then happens, in order, each at its time."""
        self.loop.advance(seconds)

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end, letting as much time pass as it waits for."""
        return self.loop.run(coro)

    def until(self, is_so: Callable[[], bool]) -> None:
        """Let handlers in threads work until `is_so()`; no turned time passes."""
        self.loop.until(is_so)

    def inside(self, call: Callable[[], T]) -> T:
        """Call with the loop running, as a callback; no turn passes."""
        return self.loop.inside(call)

    # -- clients

    def ws(
        self,
        client_id: str | None = None,
        *,
        uid: UserId | None = None,
        params: Pairs = (),
        headers: Pairs = (),
    ) -> WsClient:
        """Connect a WebSocket client. Raises HandshakeRefused if it is not let in.

        `uid` is what the hook `testing.user_id` gives; other hooks see `params` (of the
        query) and `headers`.
        """
        client = WsClient(self, client_id or self._client_id(), params, headers, uid)
        client.connect()
        return client

    def ajax(
        self,
        client_id: str | None = None,
        *,
        uid: UserId | None = None,
        params: Pairs = (),
        headers: Pairs = (),
        is_polling: bool = True,
    ) -> AjaxClient:
        """Connect an Ajax client: a handshake, then a poll that is parked, and so on.

        `is_polling` False: only the handshake; the test polls by itself.
        """
        client = AjaxClient(self, client_id or self._client_id(), params, headers, uid)
        client.shake_hands()
        if is_polling:
            client.is_polling = True
            client.poll()
        return client

    def request(self, client_id: str, *, params: Pairs = (), headers: Pairs = ()) -> Request:
        """Make the GET of a handshake, for a test that admits by itself."""
        return WsClient(self, client_id, params, headers, None).handshake_request()

    def _client_id(self) -> str:
        self._count += 1
        return f"client-{self._count}"

    # -- for clients

    @property
    def endpoint(self) -> Endpoint:
        """The channel's door, also after its stop. Raises ChannelClosed before the start."""
        return self.chsk.endpoint if self._endpoint is None else self._endpoint

    def new_cb_id(self) -> str:
        """A callback id, six hex digits as Sente's."""
        self._count += 1
        return f"{self._count:06x}"

    def udt(self) -> str:
        """The time in ms as clients send it, a new one each time."""
        self._count += 1
        return str(int(self.now * 1000) * 1000 + self._count)

    def admit(self, request: Request, *, is_upgrade: bool = False) -> Admission | Response:
        """Let the endpoint check a request; hooks that wait get the time that they need."""
        result = self.inside(lambda: self.endpoint.admit(request, is_upgrade=is_upgrade))
        if isawaitable(result):
            return self.run(_wait(result))
        return result

    async def admitted(self, request: Request) -> Admission | Response:
        """The same for a client that goes on by itself."""
        result = self.endpoint.admit(request, is_upgrade=False)
        return await result if isawaitable(result) else result


async def _wait(awaitable: Awaitable[T]) -> T:
    return await awaitable
