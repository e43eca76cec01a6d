"""`chansock send URL EVENT [DATA]`: one event from a script, and its reply if it asks for one.

stdout has the reply and nothing else; an error is one line on stderr and a status.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Any

from chansock.cli import client_options, spoken, status
from chansock.client import Client
from chansock.errors import ChansockError

__all__ = ["add", "run"]


def add(commands: Any) -> None:
    """Add the command to a parser's."""
    parser = commands.add_parser(
        "send",
        help="send one event, for scripts",
        description="Send one event. With --timeout ask for a reply, and print it as edn.",
        epilog=(
            "exit status: 0 sent, or replied; 1 refused, unreachable or closed; "
            "2 wrong usage or edn; 3 no reply in time; 4 the server's handler failed; "
            "130 Ctrl+C; 141 nobody reads the output"
        ),
        allow_abbrev=False,
    )
    client_options.add_options(parser)
    parser.add_argument("event", metavar="EVENT", help="its id: :chat/say, or chat/say")
    parser.add_argument(
        "data",
        metavar="DATA",
        nargs="?",
        help="one value in edn; - reads it from standard input; nil if there is none",
    )
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=client_options.seconds,
        help="ask for a reply, and wait S seconds",
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Send; give the status to exit with."""
    try:
        event_id = spoken.read_id(options.event)
        if options.data == "-":
            text = sys.stdin.buffer.read()
        else:
            text = (options.data or "").encode(errors="surrogateescape")
        data = spoken.read_data(text)
        client = client_options.make_client(options)
        reply = asyncio.run(_send(client, event_id, data, options.timeout))
    except BrokenPipeError:  # nobody reads what we print; a broken channel is a ChannelClosed
        raise
    except (ChansockError, OSError) as error:
        status.complain("send", status.one_line(error))
        return status.of_error(error)
    if options.timeout is not None:
        print(spoken.write(reply), flush=True)
    return status.OK


async def _send(client: Client, event_id: str, data: object, timeout: float | None) -> object:
    async with client:
        if timeout is not None:
            return await client.send(event_id, data, timeout=timeout)
        await client.send(event_id, data)
    return None
