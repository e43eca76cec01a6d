"""Proxies: which one an attempt uses, and how an HTTP proxy is asked for a tunnel.

`True` reads the environment as `urllib.request` does. SOCKS is spoken by the optional package
python-socks. No connection is made here.
"""

from __future__ import annotations

import asyncio
import base64
import socket
import urllib.request
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias
from urllib.parse import unquote, urlsplit

from chansock.errors import ConfigError

__all__ = ["Proxy", "ProxySetting", "check_proxy", "open_tunnel", "proxy_for", "socks_connector"]

# True: by the environment; a URL; None: no proxy.
ProxySetting: TypeAlias = bool | str | None

MAX_ANSWER: Final = 16 * 1024  # bytes: a proxy's answer to CONNECT
EXPECTED: Final = "http://host:port, socks5://host:port or socks5h://host:port"
_SECURE: Final = ("wss", "socks", "https", "all")  # names in urllib.request.getproxies
_PLAIN: Final = ("ws", "socks", "https", "http", "all")
_PORTS: Final = {"http": 80, "socks5": 1080, "socks5h": 1080}


@dataclass(frozen=True, slots=True)
class Proxy:
    """A proxy's URL taken apart."""

    scheme: str  # http, socks5, or socks5h: the proxy resolves the host's name
    host: str
    port: int
    user: str | None = None
    password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> Proxy:
        """Take a proxy's URL apart. Raises ConfigError, which shows no password."""
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as exc:
            raise ConfigError(f"proxy: expected {EXPECTED}, got no URL ({exc})") from None
        if parts.scheme not in _PORTS or not parts.hostname:
            what = "one without a host"
            if parts.scheme not in _PORTS:
                what = f"{parts.scheme}://" if "://" in url else "a URL without scheme"
            raise ConfigError(f"proxy: expected {EXPECTED}, got {what}")
        if parts.path not in ("", "/") or parts.query or parts.fragment:
            raise ConfigError(f"proxy: expected {EXPECTED}, got more behind the port")
        user = None if parts.username is None else unquote(parts.username)
        password = None if user is None else unquote(parts.password or "")
        port = _PORTS[parts.scheme] if port is None else port
        return cls(parts.scheme, parts.hostname, port, user, password)

    @property
    def is_socks(self) -> bool:
        return self.scheme != "http"

    @property
    def is_remote_dns(self) -> bool:
        return self.scheme == "socks5h"

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}"


def check_proxy(setting: ProxySetting) -> ProxySetting:
    """Return the setting. Raises ConfigError for one that cannot be."""
    if setting is True or setting is None:
        return setting
    if not isinstance(setting, str):
        raise ConfigError(f"proxy: expected True, None, or {EXPECTED}, got {setting!r:.80}")
    if Proxy.parse(setting).is_socks:
        _socks_package()
    return setting


def proxy_for(host: str, port: int, setting: ProxySetting, *, is_secure: bool) -> Proxy | None:
    """Return the proxy to use for a host. Raises ConfigError for one that cannot be.

    For `True` the order is that of the websockets package, with ALL_PROXY behind it: ws_proxy or
    wss_proxy, SOCKS, https_proxy, and http_proxy unless TLS is used.
    """
    if setting is not True:
        return Proxy.parse(setting) if isinstance(setting, str) else None
    if urllib.request.proxy_bypass(f"{host}:{port}"):
        return None
    proxies = urllib.request.getproxies()
    for name in _SECURE if is_secure else _PLAIN:
        if url := proxies.get(name):
            if name == "socks" and url.startswith("http://"):  # how macOS and Windows name it
                url = "socks5h://" + url.removeprefix("http://")
            return Proxy.parse(url if "://" in url else f"http://{url}")
    return None


def socks_connector(proxy: Proxy) -> Any:
    """Return python-socks' object for a proxy. Raises ConfigError if it is not installed."""
    connector, kinds = _socks_package()
    return connector(
        kinds.SOCKS5, proxy.host, proxy.port, proxy.user, proxy.password, proxy.is_remote_dns
    )


def _socks_package() -> tuple[Any, Any]:
    try:
        from python_socks import ProxyType
        from python_socks.async_.asyncio import Proxy as Connector
    except ImportError:
        raise ConfigError(
            "proxy: expected python-socks for a SOCKS proxy, which is not installed: "
            "pip install 'chansock[socks]'"
        ) from None
    return Connector, ProxyType


async def open_tunnel(sock: socket.socket, host: str, port: int, proxy: Proxy) -> None:
    """Ask an HTTP proxy for a tunnel (RFC 9110 section 9.3.6).

    Raises ConnectionError unless it answers 2xx.
    """
    loop = asyncio.get_running_loop()
    authority = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {authority} HTTP/1.1", f"Host: {authority}"]
    if proxy.user is not None:
        token = base64.b64encode(f"{proxy.user}:{proxy.password}".encode()).decode()
        lines.append(f"Proxy-Authorization: Basic {token}")
    await loop.sock_sendall(sock, "\r\n".join((*lines, "", "")).encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        data = await loop.sock_recv(sock, 4096)
        answer += data
        if not data or len(answer) > MAX_ANSWER:
            raise ConnectionError(f"HTTP proxy {proxy}: expected an answer to CONNECT, got none")
    head, _, rest = answer.partition(b"\r\n\r\n")
    version, _, status = head.split(b"\r\n")[0].decode("latin-1").partition(" ")
    if not version.startswith("HTTP/1.") or not status[:3].isdecimal():
        raise ConnectionError(f"HTTP proxy {proxy}: expected HTTP, got {head[:40]!r}")
    if not status.startswith("2"):
        raise ConnectionError(f"HTTP proxy {proxy}: expected 200 to CONNECT, got {status[:80]}")
    if rest:  # the server behind speaks only when it is spoken to
        raise ConnectionError(f"HTTP proxy {proxy}: expected a tunnel, got {rest[:40]!r}")
