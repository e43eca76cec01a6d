"""Sec-WebSocket-Extensions: what a client offers, and what of it the server agrees to.

The one extension that is known is permessage-deflate (RFC 7692). Words only: what was
agreed on is a `Deflate` of the engine, shared by all connections that agreed on the same.
"""

from __future__ import annotations

import re
from typing import Final, TypeAlias

from chansock._fast.ws.frames import Deflate
from chansock.config import Compression, Config
from chansock.request import Request, Response, is_token

__all__ = ["Extensions"]

# Of one offer: names and values in order, None where a parameter has no value.
Parameters: TypeAlias = list[tuple[str, str | None]]

# RFC 6455 section 9.1; what a quoted value says has to be a token too.
_TOKEN: Final = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER: Final = re.compile(
    rf'[ \t]*;[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"((?:[^"\\]|\\.)*)"))?'
)
_NAME: Final = re.compile(rf"[ \t]*({_TOKEN})")
_NEXT: Final = re.compile(r"[ \t]*(?:,[ \t,]*|\Z)")
_ESCAPED: Final = re.compile(r"\\(.)")

_BITS: Final = {str(bits): bits for bits in range(8, 16)}  # as they are written
_WIDEST: Final = 15  # what a peer that says nothing may use
_NARROWEST: Final = 9  # zlib can deflate into no window of 8 bits


class Extensions:
    """Agrees with each client on permessage-deflate as `config` wants it, or on nothing."""

    def __init__(self, config: Config) -> None:
        wanted = config.compression
        self._wanted = Compression() if wanted is True else wanted or None
        self._max_size = config.max_message_bytes
        self._agreed: dict[str, Deflate] = {}  # by answer, of which there are some dozens

    def agree(self, request: Request) -> Deflate | Response | None:
        """Take the first offer that we can keep to; None: no extension.

        The client's order is its preference. An offer with an unknown parameter, one that
        stands twice or a value that cannot be is passed over (RFC 7692 section 7). A
        malformed field is refused as a whole (RFC 6455 section 9.1).
        """
        if self._wanted is None:
            return None
        try:
            offers = _offers(", ".join(request.headers.getall("sec-websocket-extensions")))
        except ValueError as error:
            return Response(400, f"Sec-WebSocket-Extensions: {error}")
        for name, parameters in offers:
            if name == "permessage-deflate":
                found = self._answer(parameters, self._wanted)
                if found is not None:
                    return found
        return None

    def _answer(self, parameters: Parameters, wanted: Compression) -> Deflate | None:
        offered = dict(parameters)
        if len(offered) != len(parameters):
            return None
        answer = ["permessage-deflate", "server_no_context_takeover"]
        ours, theirs = wanted.window_bits, _WIDEST
        has_takeover = wanted.client_takeover and "client_no_context_takeover" not in offered
        if not has_takeover:
            answer.append("client_no_context_takeover")
        for name, value in parameters:
            if name in ("server_no_context_takeover", "client_no_context_takeover"):
                if value is not None:
                    return None
            elif name == "server_max_window_bits":
                ours = min(ours, _BITS.get(value or "", 0))
                if ours < _NARROWEST:
                    return None
            elif name == "client_max_window_bits":
                if value is not None and value not in _BITS:
                    return None
                theirs = min(wanted.window_bits, _BITS.get(value or "", _WIDEST))
            else:
                return None
        if ours < _WIDEST or "server_max_window_bits" in offered:
            answer.append(f"server_max_window_bits={ours}")
        if has_takeover and "client_max_window_bits" in offered:
            # It bounds what is kept between messages: of no use where nothing is.
            answer.append(f"client_max_window_bits={theirs}")
        said = "; ".join(answer)
        if said not in self._agreed:
            self._agreed[said] = Deflate(
                window_bits=ours,
                level=wanted.level,
                memory_level=wanted.memory_level,
                threshold=wanted.threshold,
                # A peer's zlib uses 9 bits where it agreed on 8.
                kept=1 << max(theirs, _NARROWEST) if has_takeover else 0,
                max_size=self._max_size,
                answer=said,
            )
        return self._agreed[said]


def _offers(text: str) -> list[tuple[str, Parameters]]:
    """Read the extensions of a field, or of several that were joined by commas."""
    offers: list[tuple[str, Parameters]] = []
    at = len(text) - len(text.lstrip(" \t,"))
    while at < len(text):
        name = _NAME.match(text, at)
        if name is None:
            raise _malformed(text, at)
        at = name.end()
        parameters: Parameters = []
        while parameter := _PARAMETER.match(text, at):
            key, value, quoted = parameter.groups()
            if quoted is not None:
                value = _ESCAPED.sub(r"\1", quoted)
                if not is_token(value):
                    raise _malformed(text, at)
            parameters.append((key, value))
            at = parameter.end()
        end = _NEXT.match(text, at)
        if end is None:
            raise _malformed(text, at)
        offers.append((name[1], parameters))
        at = end.end()
    return offers


def _malformed(text: str, at: int) -> ValueError:
    shown = text[at : at + 40]
    return ValueError(f"expected an extension or a parameter at byte {at}, got {shown!r}")
