"""What proxies say about a request: X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239).

Trusted only from the addresses that the settings name, and from a Unix socket, which only
local processes can reach; and only in the fields that the settings name, since a proxy passes
on, as the client sent them, those that it does not write itself. Takes a request and sets its
client, scheme, and host. Peers write this text, and so does the server in front of us: no value
of it raises. No socket is known.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final, TypeAlias

from chansock._core.log_limit import LogLimit
from chansock._fast.http.request_reader import is_host
from chansock.request import Headers, Request

__all__ = ["Proxies", "client_of", "scheme_of"]

log = logging.getLogger("chansock.forwarded")

# For each hop, the nearest first: the address that connected to it, and the scheme and host of
# the request. The lists differ in length where a proxy left one out.
_Hops: TypeAlias = tuple[list[str], list[str], list[str]]

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PAIR: Final = re.compile(
    r'[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^ \t",;]*))[ \t]*'
)
_NODE: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)|([0-9A-Fa-f:.]+))(?::([0-9]{1,5}|_[\w.-]+))?", re.ASCII
)
_MAX_KNOWN: Final = 1024  # addresses whose trust is cached
_MAX_ADDRESS: Final = 64  # characters: IPv6 has 45 at most, and a zone
_MAX_HOPS: Final = 32  # the walk ends there; real chains have two or three


def client_of(given: Sequence[Any] | None) -> tuple[str, int] | None:
    """Return the client of an ASGI scope as (host, port), or None.

    The host may be any text: uvicorn passes on what a proxy wrote, `unknown` say.
    """
    if not given:
        return None
    port = given[1] if len(given) > 1 else None
    return str(given[0]), port if isinstance(port, int) else 0


def scheme_of(name: str) -> str:
    """Return "https" for https and wss, in any case, and "http" for anything else."""
    return _SCHEMES.get(name.lower(), "http")


class Proxies:
    """The trusted proxies: `trusted` are addresses and networks (`10.0.0.0/8`).

    `fields` are the names of the fields that the proxies write; others are ignored.
    `is_unix` means that the listener is a Unix socket: its peer has no address, and is
    trusted too. `log_limit()` returns that of the channel, which may start later.
    """

    def __init__(
        self,
        trusted: Sequence[str],
        fields: Sequence[str],
        log_limit: Callable[[], LogLimit],
        *,
        is_unix: bool = False,
    ) -> None:
        self._fields = frozenset(name.lower() for name in fields)
        networks = [ip_network(item) for item in trusted]
        self._log_limit = log_limit
        self._is_unix = is_unix

        @lru_cache(maxsize=_MAX_KNOWN)
        def is_in_networks(host: str) -> bool:
            address = _address(host)
            return address is not None and any(address in network for network in networks)

        def is_trusted(host: str) -> bool:
            # A server passes on what a proxy wrote: text of any length must not fill the cache.
            return len(host) <= _MAX_ADDRESS and is_in_networks(host)

        self._is_trusted = is_trusted

    def apply(self, request: Request) -> None:
        """Set client, scheme, and host, if the request came from a trusted proxy.

        The client is the right-most address that is not a trusted proxy; scheme and host are
        those of the request to the proxy next to it. A hop that is not an address (`unknown`,
        `_hidden`, a name) ends the walk, and the client is the last address before it. A client
        that the server reports as such text is not trusted, and stays as it is.

        Forwarded counts only if no X- field that counts is present: a proxy that writes those
        passes a client's own Forwarded on. Values that cannot be read are ignored, with one log
        line per request.
        """
        peer = request.client
        if b"forwarded" not in request.head.lower():
            return
        if not (self._is_unix if peer is None else self._is_trusted(peer[0])):
            return
        faults: list[str] = []
        nodes, schemes, hosts = _hops(request.headers, self._fields, faults)
        hop = -1
        for node in nodes[:_MAX_HOPS]:
            hop += 1
            client = _client(node, faults)
            if client is None:
                break
            request.client = client
            if not self._is_trusted(client[0]):
                break
        if scheme := _said_by(schemes, hop):
            if scheme.lower() in _SCHEMES:
                request.scheme = _SCHEMES[scheme.lower()]
            else:
                faults.append(f"expected http or https as scheme, got {scheme!r:.80}")
        if host := _said_by(hosts, hop):
            if is_host(host.encode("latin-1")):
                request.set_host(host)
            else:
                faults.append(f"expected a host, or host:port, got {host!r:.80}")
        if faults:
            text = "bad_forwarded peer=%r %s"
            self._log_limit().warning(log, text, peer, "; ".join(faults))


def _said_by(values: list[str], hop: int) -> str:
    """Return the value of a hop; in a shorter list the last one, which the others passed on."""
    return values[max(0, min(hop, len(values) - 1))] if values else ""


def _hops(headers: Headers, fields: Collection[str], faults: list[str]) -> _Hops:
    nodes, schemes, hosts = (
        _values(headers.getall(name)) if name in fields else []
        for name in ("x-forwarded-for", "x-forwarded-proto", "x-forwarded-host")
    )
    if nodes or schemes or hosts or "forwarded" not in fields:
        return nodes, schemes, hosts
    for line in reversed(headers.getall("forwarded")):
        elements = _elements(line)
        if elements is None:
            # The lines before this one came through the same sender.
            faults.append(f"expected for=...;proto=... in Forwarded, got {line!r:.80}")
            break
        for element in reversed(elements):
            nodes.append(element.get("for", "unknown"))
            schemes.append(element.get("proto", ""))
            hosts.append(element.get("host", ""))
    return nodes, schemes, hosts


def _values(lines: list[str]) -> list[str]:
    """Split a list of values, and reverse it."""
    return [item.strip(" \t") for item in ",".join(lines).split(",") if item.strip(" \t")][::-1]


def _elements(line: str) -> list[dict[str, str]] | None:
    """Return the pairs of each element of one Forwarded field; None if it cannot be read."""
    elements: list[dict[str, str]] = [{}]
    at = 0
    while True:
        found = _PAIR.match(line, at)
        if found is None:
            return None
        name, quoted, plain = found.groups()
        value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
        if name.lower() in elements[-1]:
            return None
        elements[-1][name.lower()] = value
        at = found.end()
        if at == len(line):
            return elements
        if line[at] == ",":
            elements.append({})
        elif line[at] != ";":
            return None
        at += 1


def _client(node: str, faults: list[str]) -> tuple[str, int] | None:
    """Read `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` or `[::1]:80`; None if it is no address."""
    if node[:1] == "_" or node.partition(":")[0].lower() == "unknown":
        return None  # RFC 7239 section 6: the proxy does not know, or does not say
    if found := _NODE.fullmatch(node):
        literal, dotted, bare, port = found.groups()
        number = int(port) if port and port[0] != "_" else 0
        address = _address(literal or dotted or bare)
        if address is not None and number <= 65535:
            return str(address), number
    faults.append(f"expected an address, got {node!r:.80}")
    return None


def _address(host: str) -> IPv4Address | IPv6Address | None:
    """Read an address, or None; `::ffff:1.2.3.4`, from a dual-stack socket, is that of IPv4."""
    try:
        address = ip_address(host)
    except ValueError:
        return None
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
