"""What `connect` and `send` have in common: the options that say where to and how.

Makes a client of them. Their values may be credentials: no error shows one.
"""

from __future__ import annotations

import argparse
import math
import ssl
from typing import Final

from chansock import client, packers
from chansock.cli.status import reason
from chansock.errors import ConfigError

__all__ = ["add_options", "make_client", "seconds"]

PACKERS: Final = {
    "edn": packers.EDN,
    "json": packers.JSON,
    "msgpack": packers.MessagePack,
    "transit": packers.Transit,
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add URL and the options of a client."""
    parser.add_argument("url", metavar="URL", help="ws, wss, http or https; all mean one place")
    parser.add_argument(
        "--transport",
        choices=("auto", "ws", "ajax"),
        default="auto",
        help="auto (the default) tries a WebSocket, then Ajax",
    )
    parser.add_argument(
        "--packer", choices=tuple(PACKERS), default="edn", help="the server's; edn by default"
    )
    parser.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        type=_header,
        help="a field of each request, such as 'Cookie: session=5f2c90'; may be repeated",
    )
    parser.add_argument(
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        type=_param,
        help="a parameter of each request; may be repeated",
    )
    parser.add_argument("--csrf-token", metavar="TOKEN", help="for a server that asks for one")
    parser.add_argument(
        "--cafile", metavar="FILE", help="trust these certificates (PEM) alone, with wss or https"
    )
    parser.add_argument(
        "--proxy",
        metavar="URL",
        help="http, socks5 or socks5h; 'none' for none; by default that of the environment",
    )


def make_client(options: argparse.Namespace) -> client.Client:
    """Make a client of parsed options. Raises ConfigError."""
    context = None
    if options.cafile is not None:
        try:
            context = ssl.create_default_context(cafile=options.cafile)
        except OSError as error:
            raise ConfigError(
                f"--cafile: expected certificates in {options.cafile!r}, got {reason(error)}"
            ) from None
    return client.connect(
        options.url,
        transport=options.transport,
        packer=PACKERS[options.packer](),
        headers=options.header,
        params=options.param,
        csrf_token=options.csrf_token,
        ssl=context,
        proxy=_proxy(options.proxy),
    )


def seconds(text: str) -> float:
    """Read the value of an option in seconds."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf:
        raise argparse.ArgumentTypeError(f"expected a positive number of seconds, got {text!r}")
    return number


def _proxy(given: str | None) -> client.ProxySetting:
    if given is None:
        return True
    return None if given == "none" else given


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise argparse.ArgumentTypeError("expected 'Name: value', got no name and colon")
    return name.strip(), value.strip()


def _param(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise argparse.ArgumentTypeError("expected name=value, got no name and equals sign")
    return name, value
