"""What proxies say of a request: X-Forwarded-For, -Proto and -Host, or Forwarded (RFC 7239).

Believed only from the addresses that the settings name, and from a Unix socket, to which
nobody else comes. A request in; its client, scheme and host set anew. No socket is known.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Final, TypeAlias

from chansock._core.log_limit import LogLimit
from chansock._fast.request_reader import is_host
from chansock.request import Headers, Request

__all__ = ["Proxies"]

log = logging.getLogger("chansock.forwarded")

# Of each hop, the nearest first: the address that it saw, the scheme and host that it was
# asked for. Lists of different length where a proxy did not say.
_Hops: TypeAlias = tuple[list[str], list[str], list[str]]

_SCHEMES: Final = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
_PAIR: Final = re.compile(
    r'[ \t]*([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^ \t",;]*))[ \t]*'
)
_NODE: Final = re.compile(
    r"(?:\[([0-9A-Fa-f:.]+)\]|([0-9.]+)|([0-9A-Fa-f:.]+))(?::([0-9]{1,5}|_[\w.-]+))?", re.ASCII
)
_MAX_KNOWN: Final = 1024  # addresses whose trust is remembered


class Proxies:
    """Whom to believe: `trusted` are addresses and networks (`10.0.0.0/8`).

    `is_unix` says that the listener is a Unix socket: then its peer, which has no address,
    is believed too. `log_limit()` returns that of the channel, which may start later.
    """

    def __init__(
        self, trusted: Sequence[str], log_limit: Callable[[], LogLimit], *, is_unix: bool = False
    ) -> None:
        networks = [ip_network(item) for item in trusted]
        self._log_limit = log_limit
        self._is_unix = is_unix

        @lru_cache(maxsize=_MAX_KNOWN)
        def is_trusted(host: str) -> bool:
            address = _address(host)
            return any(address in network for network in networks)

        self._is_trusted = is_trusted

    def apply(self, request: Request) -> None:
        """Set client, scheme and host, if the request came from a trusted proxy.

        The client is the right-most address that is no trusted proxy; scheme and host are
        those that the proxy next to it was asked for. Forwarded counts only where no X- field
        stands: a proxy that writes these lets a client's own Forwarded pass. What cannot be
        read is left out, with one line in the log for the request.
        """
        peer = request.client
        if b"forwarded" not in request.head.lower():
            return
        if not (self._is_unix if peer is None else self._is_trusted(peer[0])):
            return
        faults: list[str] = []
        nodes, schemes, hosts = _hops(request.headers, faults)
        hop = -1
        for node in nodes:
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
    """Give the value of a hop. Of a shorter list the last, which the others passed on."""
    return values[max(0, min(hop, len(values) - 1))] if values else ""


def _hops(headers: Headers, faults: list[str]) -> _Hops:
    nodes = _values(headers.getall("x-forwarded-for"))
    schemes = _values(headers.getall("x-forwarded-proto"))
    hosts = _values(headers.getall("x-forwarded-host"))
    if nodes or schemes or hosts:
        return nodes, schemes, hosts
    for line in reversed(headers.getall("forwarded")):
        elements = _elements(line)
        if elements is None:
            # What stands left of it came through whoever wrote this.
            faults.append(f"expected for=...;proto=... in Forwarded, got {line!r:.80}")
            break
        for element in reversed(elements):
            nodes.append(element.get("for", "unknown"))
            schemes.append(element.get("proto", ""))
            hosts.append(element.get("host", ""))
    return nodes, schemes, hosts


def _values(lines: list[str]) -> list[str]:
    """Split a list of values, and turn it around."""
    return [item.strip(" \t") for item in ",".join(lines).split(",") if item.strip(" \t")][::-1]


def _elements(line: str) -> list[dict[str, str]] | None:
    """Read one Forwarded field: the pairs of each element; None if it cannot be read."""
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
    """Read `1.2.3.4`, `1.2.3.4:80`, `::1`, `[::1]` or `[::1]:80`; None if it names nobody."""
    if node.lower() == "unknown" or node[:1] == "_":  # RFC 7239 section 6: may not or will not
        return None
    if found := _NODE.fullmatch(node):
        literal, dotted, bare, port = found.groups()
        number = int(port) if port and port[0] != "_" else 0
        try:
            if number <= 65535:
                return str(_address(literal or dotted or bare)), number
        except ValueError:
            pass
    faults.append(f"expected an address, got {node!r:.80}")
    return None


def _address(host: str) -> IPv4Address | IPv6Address:
    """Read an address; `::ffff:1.2.3.4`, as a dual-stack socket has it, is that of IPv4."""
    address = ip_address(host)
    return address.ipv4_mapped or address if isinstance(address, IPv6Address) else address
