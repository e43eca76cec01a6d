"""Where Redis or Valkey is, and how to log in: read by redis-py from a URL and options.

redis-py and hiredis are an optional extra, so both are imported in functions.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from chansock.errors import BackplaneError

__all__ = ["Address", "find_master", "parse"]

_MISSING: Final = (
    'the Redis backplane needs redis-py and hiredis: pip install "chansock[redis]" (%s)'
)
_SENTINEL: Final = ("redis+sentinel", "rediss+sentinel", "valkey+sentinel", "valkeys+sentinel")
_CREDENTIALS: Final = ("username", "password", "credential_provider")


@dataclass(frozen=True, slots=True)
class Address:
    """A server: a Unix socket if `path` is set, else host and port; or Sentinels that know it."""

    shown: str  # without the password
    host: str = "localhost"
    port: int = 6379
    path: str = ""
    db: int = 0
    username: str = ""
    password: str = ""
    provider: Any = None  # redis-py's CredentialProvider
    tls: ssl.SSLContext | None = None
    sentinels: tuple[tuple[str, int], ...] = ()
    service: str = ""
    sentinel_options: tuple[tuple[str, Any], ...] = ()

    def credentials(self) -> tuple[str, ...]:
        """Return what AUTH takes: nothing, or a user's name and password."""
        if self.provider is not None:
            found = tuple(self.provider.get_credentials())
            return found if len(found) != 1 else ("default", *found)
        if self.password or self.username:
            return (self.username or "default", self.password)
        return ()


def parse(url: str, options: dict[str, Any]) -> Address:
    """Return the address in a URL; `options` are redis-py's, and go before those of the URL.

    Raises BackplaneError if the URL is wrong, or redis-py or hiredis is missing.
    """
    try:
        import hiredis  # noqa: F401
        from redis.asyncio.connection import SSLConnection, parse_url
    except ImportError as error:
        raise BackplaneError(_MISSING % error) from None
    parts = urlsplit(url)
    scheme = parts.scheme.replace("valkey", "redis")
    sentinels: tuple[tuple[str, int], ...] = ()
    service = ""
    try:
        if parts.scheme in _SENTINEL:
            hosts = parts.netloc.rpartition("@")[2].split(",")
            sentinels = tuple(_host_and_port(host) for host in hosts)
            service, _, db = parts.path.strip("/").partition("/")
            if not service:
                raise ValueError("expected the name of a service after the hosts")
            login = parts.netloc.rpartition("@")[0]
            first = f"{login}@localhost" if login else "localhost"
            scheme = scheme.removesuffix("+sentinel")
            plain = f"{scheme}://{first}/{db or 0}"
            plain += f"?{parts.query}" if parts.query else ""
        else:
            plain = f"{scheme}{url[len(parts.scheme) :]}"
        found: dict[str, Any] = {**parse_url(plain), **options}
        connection = found.pop("connection_class", None)
        sentinel_options = {
            name.removeprefix("sentinel_"): found.pop(name)
            for name in list(found)
            if name.startswith("sentinel_")
        }
        tls = None
        if connection is SSLConnection or found.pop("ssl", False) in (True, "true", "True", "1"):
            only_tls = {name: value for name, value in found.items() if name.startswith("ssl_")}
            tls = SSLConnection(**only_tls).ssl_context.get()
        return Address(
            shown=_shown(url),
            host=found.get("host") or "localhost",
            port=int(found.get("port") or 6379),
            path=found.get("path") or "",
            db=int(found.get("db") or 0),
            username=found.get("username") or "",
            password=found.get("password") or "",
            provider=found.get("credential_provider"),
            tls=tls,
            sentinels=sentinels,
            service=unquote(service),
            sentinel_options=tuple(sentinel_options.items()),
        )
    except (ValueError, TypeError, OSError) as error:
        raise BackplaneError(f"cannot use the backplane's URL {_shown(url)}: {error}") from error


async def find_master(address: Address) -> tuple[str, int]:
    """Ask the Sentinels where the master is. Raises OSError if none knows."""
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import Sentinel
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError

    # One that does not answer is not asked twice: the next may, and the engine asks all again.
    once = Retry(NoBackoff(), 0)
    options = {"socket_timeout": 1.0, "socket_connect_timeout": 1.0, "retry": once}
    sentinel = Sentinel(  # type: ignore[no-untyped-call]
        list(address.sentinels), sentinel_kwargs={**options, **dict(address.sentinel_options)}
    )
    try:
        host, port = await sentinel.discover_master(address.service)
        return str(host), int(port)
    except RedisError as error:
        raise OSError(f"no Sentinel knows the master of {address.service}: {error}") from error
    finally:
        for client in sentinel.sentinels:
            await client.aclose()


def _host_and_port(text: str) -> tuple[str, int]:
    parts = urlsplit(f"//{text}")
    if not parts.hostname:
        raise ValueError(f"expected host:port, got {text!r:.80}")
    return parts.hostname, parts.port or 26379


def _shown(url: str) -> str:
    """Return a URL without login and options: it goes to logs."""
    head, mark, rest = url.partition("://")
    rest = rest.partition("?")[0]
    return f"{head}{mark}{rest.rpartition('@')[2]}"
