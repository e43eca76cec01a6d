"""`chansock connect URL`: an interactive client; in a pipe, one that reads events from it.

stdout has what the server said, one line each: `< :chat/said {...}` for an event, `= 42` for
a reply. stderr has what becomes of the channel (`* closed ...`) and what went wrong (`! ...`).
"""

from __future__ import annotations

import argparse
import asyncio
import logging
from typing import Any

from chansock.cli import client_options, spoken, status
from chansock.cli.terminal import Keyboard, Screen
from chansock.client import Client, Event, State
from chansock.errors import ChansockError, EdnDecodeError

__all__ = ["add", "run"]

TIMEOUT = 10.0  # a person's patience


def add(commands: Any) -> None:
    """Add the command to a parser's."""
    parser = commands.add_parser(
        "connect",
        help="talk to a channel from a terminal",
        description=(
            "Connect, and show what comes. Type an event to send it, ':chat/say {:text \"hi\"}'; "
            "with a ? before it, to ask for a reply: '? :math/double 21'. Ctrl+D ends."
        ),
        epilog=(
            "exit status: 0 at the end of the input; 1 refused, unreachable or closed for good; "
            "2 wrong usage; 130 Ctrl+C; 141 nobody reads the output. Where the input is no "
            "terminal, that of the first line that failed: 1 closed, 2 no event, 3 no reply in "
            "time, 4 the server's handler failed"
        ),
        allow_abbrev=False,
    )
    client_options.add_options(parser)
    parser.add_argument(
        "--timeout",
        metavar="S",
        type=client_options.seconds,
        default=TIMEOUT,
        help=f"how long a reply is waited for (default: {TIMEOUT:g} s)",
    )
    parser.add_argument(
        "--listen", action="store_true", help="go on after the end of the input, until Ctrl+C"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Talk until the input ends; give the status to exit with."""
    screen = Screen()
    with screen.terminal():
        try:
            client = client_options.make_client(options)
            return asyncio.run(_Session(client, screen, options).run())
        except BrokenPipeError:  # nobody reads what we print; a broken channel is a ChannelClosed
            raise
        except (ChansockError, OSError) as error:
            status.complain("connect", status.one_line(error))
            return status.of_error(error)


class _Session:
    """One client, what it is told from the keyboard, and what it tells the screen."""

    def __init__(self, client: Client, screen: Screen, options: argparse.Namespace) -> None:
        self._client = client
        self._screen = screen
        self._timeout: float = options.timeout
        self._goes_on: bool = options.listen
        self._old = client.state
        self._refused = asyncio.Event()
        self._status = status.OK

    async def run(self) -> int:
        self._client.on_state(self._changed)
        logging.getLogger("chansock").addHandler(_Notes(self._screen))
        async with self._client:
            events = asyncio.create_task(self._show_events())
            refused = asyncio.create_task(self._refused.wait())
            lines = asyncio.create_task(self._send_lines())
            tasks = {events, refused, lines}
            try:
                await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
                if lines.done() and self._goes_on:
                    lines.result()
                    await asyncio.wait(tasks - {lines}, return_when=asyncio.FIRST_COMPLETED)
                for task in tasks:
                    if task.done():
                        task.result()
            finally:
                self._screen.end()
                for task in tasks:
                    task.cancel()
        if self._refused.is_set():
            return status.CLOSED
        return status.OK if self._screen.is_interactive else self._status

    async def _show_events(self) -> None:
        async for event in self._client:
            self._screen.say(f"< {_spelled(event)}")

    async def _send_lines(self) -> None:
        async for line in Keyboard(self._screen):
            try:
                await self._send(line)
            except (
                BrokenPipeError
            ):  # nobody reads what we print; a broken channel is a ChannelClosed
                raise
            except (ChansockError, OSError) as error:
                self._status = self._status or status.of_error(error)
                # The lines below the first show the place.
                text = str(error) if isinstance(error, EdnDecodeError) else status.one_line(error)
                self._screen.note(f"! {text}")

    async def _send(self, line: bytes) -> None:
        wants_reply = line.lstrip().startswith(b"?")
        start = line.index(b"?") + 1 if wants_reply else 0
        if not wants_reply and spoken.is_blank(line):
            return
        event_id, data = spoken.read_event(line, start)
        if wants_reply:
            reply = await self._client.send(event_id, data, timeout=self._timeout)
            self._screen.say(f"= {spoken.write(reply)}")
        else:
            await self._client.send(event_id, data)

    def _changed(self, new: State) -> None:
        """Print a change of state, each once."""
        old, self._old = self._old, new
        if new.open and not old.open:
            over = "a WebSocket" if new.type == "ws" else "Ajax"
            shown = f"* connected over {over}, uid {spoken.write(new.uid)}"
            if new.handshake_data is not None:
                shown += f", handshake data {spoken.write(new.handshake_data)}"
            self._screen.note(shown)
        elif not new.open and new.reason is not None and (old.open or new.reason != old.reason):
            if not new.ever_opened or new.reason.kind.startswith("requested"):
                return  # the end, or told by the error that ends the program
            shown = f"* closed: {new.reason}" if old.open else f"* not back yet: {new.reason}"
            if new.reason.is_final:
                self._refused.set()
            elif old.open:
                shown += "; coming back"
            self._screen.note(shown)


class _Notes(logging.Handler):
    """Shows warnings of the client without breaking the line that is typed."""

    def __init__(self, screen: Screen) -> None:
        super().__init__(logging.WARNING)
        self._screen = screen

    def emit(self, record: logging.LogRecord) -> None:
        self._screen.note(f"! {record.getMessage()}")


def _spelled(event: Event) -> str:
    return f":{event.id}" if event.data is None else f":{event.id} {spoken.write(event.data)}"
