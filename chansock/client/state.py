"""What the client and its two transports share: State, the Reason of an end, and Link.

`State` and `Reason` are records, with Sente's names where Sente has them; `Watch` calls the
handlers of a change. `Link` is what the client asks of a transport, `Owner` what that calls.
Nothing travels here; `client` decides what the state becomes.
"""

from __future__ import annotations

import dataclasses
import inspect
import logging
import ssl as ssl_module
import time
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol, TypeAlias

from chansock._core.log_limit import LogLimit, call_later
from chansock._fast.events.packet import Packer
from chansock.client.arguments import ClientConfig
from chansock.client.packets import Handshake, Inbound, Was

__all__ = [
    "Close",
    "Link",
    "Owner",
    "Reason",
    "ReasonKind",
    "Settings",
    "State",
    "StateHandler",
    "TransportType",
    "Watch",
    "WsClose",
    "WsError",
]

TransportType: TypeAlias = Literal["ws", "ajax"]

ReasonKind: TypeAlias = Literal[
    "clean",  # closed by the server with code 1000
    "unexpected",  # any other end of a connection that was open
    "not-opened",  # never got as far as a handshake: network, time-out, a status other than 200
    "refused",  # 401, 403, or close code 1008 or 4401: not tried again until reconnect()
    "ws-ping-timeout",  # the server did not answer our ping
    "ws-error",  # an event could not be written to the socket
    "downgrading-ws-to-ajax",  # no WebSocket opens here; Ajax from now on
    "requested-reconnect",
    "requested-disconnect",
]

# Trying again with the same credentials would only be refused again.
REFUSING_STATUSES: Final = frozenset({401, 403})
REFUSING_CLOSE_CODES: Final = frozenset({1008, 4401})

RESTART_CODES: Final = frozenset({503, 1012})


@dataclass(frozen=True, slots=True)
class Reason:
    """Why a channel is closed.

    `code` is the WebSocket close code or the HTTP status, None where there was neither;
    `text` is what the other side or the network said, in its words.
    `retry_after` is the server's wish for the next attempt (HTTP's Retry-After), in seconds.
    """

    kind: ReasonKind
    code: int | None = None
    text: str = ""
    retry_after: float | None = field(default=None, compare=False)
    is_unreachable: bool = field(default=False, compare=False)  # nobody listens: ECONNREFUSED

    @property
    def is_restart(self) -> bool:
        """Whether the server seems to restart: it is likely to be back within a second."""
        return self.is_unreachable or self.code in RESTART_CODES

    @property
    def is_final(self) -> bool:
        """Whether only new credentials can help."""
        return self.kind == "refused"

    @property
    def is_unclear(self) -> bool:
        """Whether it leaves open why a WebSocket did not open.

        A status may be a middlebox's, which lets Ajax pass; a close code is the server's own word.
        """
        return self.kind == "not-opened" or (self.is_final and (self.code or 0) < 1000)

    def __str__(self) -> str:
        code = "" if self.code is None else f" {self.code}"
        return f"{self.kind}{code}: {self.text}" if self.text else f"{self.kind}{code}"


@dataclass(frozen=True, slots=True)
class Close:
    """When and why a channel that was open closed; `time` in seconds since the epoch."""

    time: float
    reason: Reason


@dataclass(frozen=True, slots=True)
class WsClose:
    """How a WebSocket ended, in the words of a browser's close event.

    `clean`: with a closing handshake, whatever the code. `code` is 1005 where the close frame
    had none, 1006 where there was no close frame, or no WebSocket (RFC 6455 section 7.1.5).
    """

    time: float
    code: int
    reason: str
    clean: bool


@dataclass(frozen=True, slots=True)
class WsError:
    """What went wrong with a WebSocket: it did not open, or broke RFC 6455."""

    time: float
    text: str


@dataclass(frozen=True, slots=True)
class State:
    """What is known of a channel at one moment; a change is a new State.

    `type`, `uid` and `handshake_data` stay those of the last handshake while closed.
    `reason` says why it last closed or did not open, also after it has opened again; `last_close`
    when and why it last closed after it was open. `retry_at` is the time (seconds since the epoch)
    of the next attempt, None if none is due. `csrf_token` is that of the last attempt.

    `resumed` says how the last handshake went on: "fresh": a new session; "resumed": no event was
    missed; "gap": events may be missing, so load the data anew; None: the server does not resume.
    """

    open: bool = False
    type: TransportType = "ws"
    uid: object = None  # None: anonymous
    handshake_data: Any = None
    ever_opened: bool = False
    reason: Reason | None = None
    retry_at: float | None = None
    csrf_token: str | None = field(
        default=None, repr=False
    )  # states are logged; tokens must not be
    last_close: Close | None = None
    last_ws_close: WsClose | None = None
    last_ws_error: WsError | None = None
    resumed: Was | None = None


def http_reason(
    status: int, text: str, *, was_open: bool, retry_after: float | None = None
) -> Reason:
    """Name the reason of a channel whose request got `status` instead of 200."""
    if status in REFUSING_STATUSES:
        return Reason("refused", status, text)
    return Reason("unexpected" if was_open else "not-opened", status, text, retry_after)


def error_reason(exc: BaseException, *, was_open: bool) -> Reason:
    """Name the reason of a channel whose connection failed."""
    kind: ReasonKind = "unexpected" if was_open else "not-opened"
    text = str(exc) or type(exc).__name__
    return Reason(kind, None, text, is_unreachable=isinstance(exc, ConnectionRefusedError))


def close_reason(code: int, text: str, *, was_open: bool) -> Reason:
    """Name the reason of a WebSocket that the server closed; 1006: without a word."""
    if code in REFUSING_CLOSE_CODES:
        return Reason("refused", code, text)
    if not was_open:
        return Reason("not-opened", code, text or "closed before the handshake message")
    return Reason("clean" if code == 1000 else "unexpected", code, text)


def said(body: bytes) -> str:
    """Return the first line of an answer's body, cut: the server's own words for a refusal."""
    lines = body[:400].decode(errors="replace").strip().splitlines()
    return lines[0][:200] if lines else ""


# -- who hears of a change

StateHandler: TypeAlias = Callable[[State], Awaitable[object] | object]

log = logging.getLogger("chansock.client.watch")


class Watch:
    """The present State, its handlers, and `told(old, new)` behind them.

    A plain handler is called at once; the awaitable of a coroutine handler goes to `keep`, which
    runs it beside the rest. If a handler causes a change, the handlers are called for that one
    after they were all called for this one.
    """

    def __init__(
        self,
        state: State,
        told: Callable[[State, State], None],
        keep: Callable[[Awaitable[Any]], None],
        log_limit: LogLimit,
    ) -> None:
        self.state: State = state
        self.handlers: list[StateHandler] = []
        self._untold: deque[tuple[State, State]] = deque()
        self._is_telling = False
        self._told = told
        self._keep = keep
        self._log_limit = log_limit

    def change(self, **changes: Any) -> None:
        """Make the changes, and call the handlers if there are any."""
        old, new = self.state, dataclasses.replace(self.state, **changes)
        if new == old:
            return
        self.state = new
        self._untold.append((old, new))
        if self._is_telling:
            return
        self._is_telling = True
        try:
            while self._untold:
                self._tell(*self._untold.popleft())
        finally:
            self._is_telling = False

    def _tell(self, old: State, new: State) -> None:
        for handler in tuple(self.handlers):
            try:
                result = handler(new)
            except Exception:
                self._log_limit.exception(log, "state_handler_failed")
                continue
            if inspect.isawaitable(result):
                self._keep(result)
        self._told(old, new)


# -- between the client and its transports


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What does not change from attempt to attempt."""

    packer: Packer
    # Of a POST whose body is a packet of text; None: such packets are sent as forms.
    text_type: str | None = None
    ssl: ssl_module.SSLContext | None = None
    config: ClientConfig = field(default_factory=ClientConfig)
    # Of the lines that a server can cause, whatever thread they come from.
    log_limit: LogLimit = field(default_factory=lambda: LogLimit(time.monotonic, call_later))


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """What a link calls: the client's side."""

    # Take a handshake: the first opens the channel, a later one renews it.
    opened: Callable[[Link, Handshake], None]
    # Take anything else that the server sent, in the order of arrival.
    received: Callable[[Link, Inbound], None]
    # Say whether that many events more are too many to ask for others meanwhile.
    would_fill: Callable[[int], bool]


class Link(Protocol):
    """One connection to the server, over one transport, from one attempt to its end."""

    type: TransportType
    is_reached: bool  # whether a server answered at all, be it with a refusal

    async def run(self) -> Reason:
        """Connect, shake hands, live; return the reason of the end. Raises only if cancelled."""

    def stop(self, reason: Reason, /) -> None:
        """End it from our side; `run` returns that reason soon."""

    def break_off(self, code: int, /, *, is_noticed: bool) -> None:
        """End the connection from below, as a network might; a socket says `code`.

        Not noticed: the link takes itself for open until it is used.
        """

    async def send(self, value: object, timeout: float | None, /) -> object:
        """Send an event to a server that does not resume; with a timeout, wait for its reply.

        An event whose `send` is cancelled before its turn is not sent. Raises ChannelClosed,
        ConnectionLost, ReplyTimeout, ReplyError, EncodeError.
        """

    def flush(self) -> bool:
        """Write what the buffer has for a server that resumes, as far as there is room.

        Return whether `send` need not wait: all of it is written.
        """

    def ask_acks(self) -> None:
        """Ask the server what it has handled, if it can be asked."""

    def set_reading(self, on: bool, /) -> None:
        """Stop or go on reading. May be called twice with the same value."""

    async def gone(self) -> None:
        """Wait until nothing of it is left on the network; if cancelled, drop the rest."""
