"""The exceptions that chansock raises, and nothing else.

    ChansockError
    +-- ConfigError             a setting that cannot be (ours to start with: caller)
    +-- InvalidEvent            an event that cannot be sent (caller)
    +-- BadData                 .message .path, an event's data that its handler cannot take
    +-- EncodeError             .message .path, a value that edn, or a packer, cannot write
    +-- EdnError
    |   +-- EdnDecodeError      .position .line .column
    |       +-- EdnTruncated    what is there is well so far
    +-- PeerError               the other side broke a rule
    |   +-- FrameError          .close_code
    |   +-- PacketError
    |   +-- HandshakeRefused    .status .reason
    +-- ChannelClosed           not open, not yet or no more
    |   +-- ConnectionLost      the connection broke before an answer came
    +-- ReplyTimeout            no reply within the time given
    +-- ReplyError              .reason, the handler on the other side failed
    +-- BackplaneError          the engine cannot be used: an address, a password, a setting
        +-- BackplaneDown       the engine is not heard at the moment
        +-- BackplaneFull       .unstored .limit, too much waits for the engine

PeerError, FrameError, and PacketError never reach an application, so `chansock` doesn't export
them. A packer of your own raises `chansock.packers.PacketError`.

Exceptions carry fields; the text is made from the fields.
"""

from __future__ import annotations

from unicodedata import east_asian_width

__all__ = [
    "BackplaneDown",
    "BackplaneError",
    "BackplaneFull",
    "BadData",
    "ChannelClosed",
    "ChansockError",
    "ConfigError",
    "ConnectionLost",
    "EdnDecodeError",
    "EdnError",
    "EdnTruncated",
    "EncodeError",
    "FrameError",
    "HandshakeRefused",
    "InvalidEvent",
    "PacketError",
    "PeerError",
    "ReplyError",
    "ReplyTimeout",
]


def _blank(text: str) -> str:
    """Return whitespace as wide as text."""
    return "".join("\u3000" if east_asian_width(c) in "WF" else " " for c in text)


class ChansockError(Exception):
    """Base of everything that chansock raises on purpose."""


class ConfigError(ChansockError, ValueError):
    """A setting that cannot be: names the field, what was expected and what came."""


class InvalidEvent(ChansockError, ValueError):
    """An event that cannot be sent: its id, its target or its size."""


class BadData(ChansockError, ValueError):
    """An event's data that does not fit its handler: who sent it is answered with this.

    `path` leads to the fault: `["user"][3]`. A handler or a middleware may raise it, too:
    it counts in `stats.bad_data`, and is the client's fault, not the handler's.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message, path)
        self.message = message
        self.path = path

    def under(self, step: object) -> BadData:
        """Make the same of what holds this at a key, or at a place in a list."""
        if isinstance(step, str):
            shown = repr(str(step)[:80])
        else:
            shown = str(step) if isinstance(step, int) else type(step).__name__
        return type(self)(self.message, f"[{shown}]{self.path}"[:200])

    def __str__(self) -> str:
        return f"{self.message} at {self.path}" if self.path else self.message


class EncodeError(ChansockError, ValueError):
    """A value that edn, or another packer's format, has no form for.

    `path` leads to it: `[3]["user"]`.
    """

    def __init__(self, message: str, path: str = "") -> None:
        super().__init__(message, path)
        self.message = message
        self.path = path

    def __str__(self) -> str:
        return f"{self.message} at {self.path}" if self.path else self.message


class EdnError(ChansockError, ValueError):
    """Base of what the edn reader raises."""


class EdnDecodeError(EdnError):
    """Bytes that are no edn.

    `position` is the byte offset, from 0; `line` and `column` count from 1,
    the column in characters. `text` is what stands around it in its line, and `caret`
    the index there.
    """

    def __init__(
        self,
        message: str,
        position: int = 0,
        line: int = 1,
        column: int = 1,
        text: str = "",
        caret: int = 0,
    ) -> None:
        super().__init__(message, position, line, column, text, caret)
        self.message = message
        self.position = position
        self.line = line
        self.column = column
        self.text = text
        self.caret = caret

    def __str__(self) -> str:
        place = f"at byte {self.position} (line {self.line}, column {self.column})"
        if not self.text:
            return f"{self.message} {place}"
        shown = "".join(c if c.isprintable() else " " for c in self.text)
        return f"{self.message} {place}\n  {shown}\n  {_blank(shown[: self.caret])}^"


class EdnTruncated(EdnDecodeError):
    """The beginning of edn: with more text it could be read. A stream waits for that."""


class PeerError(ChansockError):
    """The other side broke a rule of the wire. Never reaches application code."""


class FrameError(PeerError):
    """Bytes that are no WebSocket frame; closes the connection with `close_code`."""

    def __init__(self, message: str, close_code: int = 1002) -> None:
        super().__init__(message, close_code)
        self.message = message
        self.close_code = close_code

    def __str__(self) -> str:
        return f"{self.message} (close code {self.close_code})"


class PacketError(PeerError):
    """Bytes that are no packet; the packet is dropped."""


class HandshakeRefused(PeerError):
    """The server will not have this client: HTTP `status`, and `reason` in its words."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(status, reason)
        self.status = status
        self.reason = reason

    def __str__(self) -> str:
        return f"handshake refused with HTTP {self.status}: {self.reason or 'no reason given'}"


class ChannelClosed(ChansockError, ConnectionError):
    """The channel is not open: nothing was sent, or its answer is unknown."""


class ConnectionLost(ChannelClosed):
    """The connection broke after an event was sent, and before its answer came.

    The server may or may not have handled the event.
    """


class ReplyTimeout(ChansockError, TimeoutError):
    """No reply came within the time given; the event may have been handled."""


class ReplyError(ChansockError):
    """The other side's handler failed (`:chsk/error`).

    `reason` is why, in the server's words, if the data of the event did not fit; `"unclaimed"`
    if no handler takes this event id, which may be misspelt; None if the handler raised.
    """

    def __init__(self, message: str, reason: str | None = None) -> None:
        super().__init__(message, reason)
        self.message = message
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.message}: {self.reason}" if self.reason else self.message


class BackplaneError(ChansockError):
    """The engine that joins several processes cannot be used: the text says what to set."""


class BackplaneDown(BackplaneError):
    """The engine is not heard at the moment; chansock keeps trying to reach it."""


class BackplaneFull(BackplaneError):
    """Too much waits for the engine: nothing more can be sent until it is heard again.

    `unstored` are the bytes that wait, and `limit` is `max_unstored_bytes`; or both are seconds,
    of the oldest, and `max_unstored_seconds`.
    """

    def __init__(self, unstored: float, limit: float, unit: str = "bytes") -> None:
        super().__init__(unstored, limit, unit)
        self.unstored = unstored
        self.limit = limit
        self.unit = unit

    def __str__(self) -> str:
        return (
            f"expected at most {self.limit:,.0f} {self.unit} that wait for the engine, "
            f"got {self.unstored:,.0f}"
        )
