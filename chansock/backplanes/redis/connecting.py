"""From an address to a connection that can be used, and what can be wrong on the way.

Faults that waiting cannot mend raise BackplaneError with what to set; all others OSError,
LinkLost, or ServerError, and the engine tries again.
"""

from __future__ import annotations

import asyncio
import logging
import re
import ssl
from collections.abc import Callable
from typing import Any, Final

from chansock.backplanes.redis.address import Address, find_master
from chansock.backplanes.redis.link import Link, ServerError
from chansock.backplanes.redis.scripts import SCRIPTS, TEXTS
from chansock.errors import BackplaneError

__all__ = ["LIMIT", "check", "connect", "log_in", "rights_error"]

LIMIT: Final = 2.0  # seconds for each step: a server that needs longer counts as down
OLDEST: Final = {"redis": (7, 0), "valkey": (7, 2)}

NOBODY: Final = 2**63 - 1  # the id of a connection that there never is

_log = logging.getLogger("chansock.backplane")
# Errors that pass: a server that starts, a failover, a lack of memory.
_PASSING: Final = frozenset(
    ("LOADING", "READONLY", "MASTERDOWN", "OOM", "BUSY", "NOREPLICAS", "MISCONF", "TRYAGAIN")
)


async def connect(address: Address, make: Callable[[], Link]) -> Link:
    """Open a connection. Raises OSError, or BackplaneError if TLS is refused."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(LIMIT * 2):
            if address.path:
                _, link = await loop.create_unix_connection(make, address.path, ssl=address.tls)
            else:
                host, port = address.host, address.port
                if address.sentinels:
                    host, port = await find_master(address)
                _, link = await loop.create_connection(make, host, port, ssl=address.tls)
            return link
    except TimeoutError:
        what, hint = "connection", ""
        if address.tls:
            what, hint = (
                "TLS connection",
                ": check the scheme (rediss://) and the server's tls-port",
            )
        raise TimeoutError(f"no {what} within {2 * LIMIT:g} s{hint}") from None
    except ssl.SSLError as error:
        raise BackplaneError(
            f"no TLS with {address.shown}: {error}; check the scheme (rediss://), ssl_ca_certs, "
            "and the server's tls-port and certificate"
        ) from error


async def log_in(address: Address, link: Link) -> tuple[str, str]:
    """Log in, load the scripts; return the ids of the server's run and of this connection in it.

    Raises BackplaneError for a wrong password or an old version.
    """
    async with asyncio.timeout(LIMIT):
        login = address.credentials()
        try:
            hello = await link.ask("HELLO", "3", *(("AUTH", *login) if login else ()))
        except ServerError as error:
            raise _refused(address, error) from error
        if not isinstance(hello, (dict, list)):
            raise ServerError("ERR expected the answer to HELLO, got something else")
        info = _pairs(hello)
        _check_version(address, info)
        try:
            if address.db:
                await link.ask("SELECT", address.db)
            about = await link.ask("INFO", "server")
            for name, text in TEXTS.items():
                loaded = await link.ask("SCRIPT", "LOAD", text)
                if loaded != SCRIPTS[name].encode():
                    raise ServerError("ERR expected the name of a script, got something else")
        except ServerError as error:
            raise _refused(address, error) from error
    text = about if isinstance(about, bytes) else str(about).encode()
    run = re.search(rb"^run_id:(\w+)", text, re.MULTILINE)
    if run is None:
        raise ServerError("ERR expected run_id in INFO server, got none")
    return run[1].decode(), info.get("id", "0")


async def check(address: Address, link: Link, lane: str, prefix: str) -> None:
    """Check settings and rights once. Raises BackplaneError with what to set."""
    async with asyncio.timeout(LIMIT):
        try:
            found = await link.ask("CONFIG", "GET", "maxmemory-policy")
            policy = _pairs(found).get("maxmemory-policy", "noeviction")
            if policy != "noeviction":
                raise BackplaneError(
                    f"expected maxmemory-policy noeviction on {address.shown}, got {policy}: the "
                    "server would evict what chansock counts with; "
                    "set `maxmemory-policy noeviction`"
                )
        except ServerError as error:
            if error.code in _PASSING:
                raise
            _log.warning(
                "policy_unknown reason=%s; chansock needs `maxmemory-policy noeviction`", error
            )
        try:
            refused = await link.ask("EVALSHA", SCRIPTS["check"], 1, lane)
            await link.ask("CLIENT", "KILL", "ID", NOBODY)
        except ServerError as error:
            raise _refused(address, error) from error
        if refused:
            texts = [text.decode(errors="replace") for text in refused]
            # Redis says in scripts: "The user executing the script can't run this command".
            if any(re.search(r"NOPERM|permission|user executing", text) for text in texts):
                raise rights_error(address, prefix, "; ".join(texts)[:300])
            raise ServerError(texts[0])


def _check_version(address: Address, info: dict[str, str]) -> None:
    server, version = info.get("server", "redis"), info.get("version", "0")
    number = tuple(int(part) for part in re.findall(r"\d+", version)[:2])
    oldest = OLDEST.get(server, OLDEST["redis"])
    if number < oldest:
        raise BackplaneError(
            f"expected Redis 7.0 or Valkey 7.2 or later on {address.shown}, got {server} {version}"
        )


def _refused(address: Address, error: ServerError) -> Exception:
    """Return what to raise for an error: itself, if waiting may help."""
    text = str(error)
    if error.code in _PASSING:
        return error
    if error.code in ("WRONGPASS", "NOAUTH") or ("AUTH" in text and "password" in text):
        return BackplaneError(
            f"{address.shown} refused the login: {text}; set the user's name and password "
            "in the URL: redis://user:password@host:port"
        )
    if error.code == "NOPERM":
        return rights_error(address, "chsk:", text)
    if error.code in ("NOPROTO", "ERR") and "HELLO" in text.upper():
        return BackplaneError(
            f"expected Redis 7.0 or Valkey 7.2 or later on {address.shown}, got a server "
            f"without HELLO 3: {text}"
        )
    if "DB index" in text:
        return BackplaneError(f"{address.shown} has no such database: {text}")
    return error


def rights_error(address: Address, prefix: str, text: str) -> BackplaneError:
    """Return what to raise if the user's rights do not suffice."""
    return BackplaneError(
        f"{address.shown} does not permit what chansock needs: {text}; "
        f"set `ACL SETUSER <name> ~{prefix}* &{prefix}* +@all -@dangerous +info +client|kill`"
    )


def _pairs(found: Any) -> dict[str, str]:
    """Return a map of texts; RESP2 has lists instead."""
    if isinstance(found, list):
        found = dict(zip(found[::2], found[1::2], strict=False))
    if not isinstance(found, dict):
        raise ServerError("ERR expected a map, got something else")
    return {_text(key): _text(value) for key, value in found.items()}


def _text(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
