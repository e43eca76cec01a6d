"""What a client knows of its own channel: `State`, and the `Reason` of its last close.

Records only, with Sente's names where Sente has them: who changes them, and when, is decided
in client.py, who is told in watch.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

__all__ = ["Close", "Reason", "ReasonKind", "State", "TransportType", "WsClose", "WsError"]

TransportType: TypeAlias = Literal["ws", "ajax"]

ReasonKind: TypeAlias = Literal[
    "clean",  # closed by the server with code 1000
    "unexpected",  # any other end of a connection that was open
    "not-opened",  # never got as far as a handshake: network, time-out, a status other than 200
    "refused",  # 401, 403, or close code 1008 or 4401: not tried again until reconnect()
    "ws-ping-timeout",  # the server did not answer our ping
    "ws-error",  # an event could not be written to the socket
    "downgrading-ws-to-ajax",  # no WebSocket to be had here; Ajax from now on
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
    """How a WebSocket ended, as a browser's close event tells it.

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
