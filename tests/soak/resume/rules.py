"""The controls: each switches off one rule of resume, so that a soak shows what the rule is for.

A rule of the server is switched off in the server's process by a patch of Python methods of
chansock; one of the client in the raw clients. README.md says what a soak reports then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from chansock import LATER, channel
from chansock._core import wire
from chansock._core.hub import Hub
from chansock._core.posts import PostOrder
from chansock._core.resume import Resume
from chansock._fast.events.dispatch import Numbers
from chansock.backplanes import memory

if TYPE_CHECKING:
    from soak.resume.server import Server

__all__ = ["NEEDS_KILLS", "OF_CLIENT", "RULES", "switch_off"]


def no_positions(server: Server) -> None:
    """Batches end with the position of the batch before."""
    before: dict[Any, int] = {}

    def stale(packer: Any, backplane: Any, seq: int) -> bytes:
        seq, before[backplane] = before.get(backplane, seq), seq
        return packer.fragment((wire.POSITION, str(backplane.position_of(seq))))  # type: ignore[no-any-return]

    channel._position = stale


def no_replay(server: Server) -> None:
    """What a client has missed is not sent again."""
    read = memory.Memory.read

    def nothing(self: Any, *args: Any) -> Any:
        return None if read(self, *args) is None else []

    memory.Memory.read = nothing  # type: ignore[method-assign]


def no_marks(server: Server) -> None:
    """A log does not remember what it forgot: what is left of it is taken for the whole."""
    read = memory.Memory.read

    def the_rest(self: Any, client: Any, since: int, before: int) -> Any:
        low, high = since, self.position.seq
        while low < high:  # the lowest that is whole
            middle = (low + high) // 2
            if read(self, client, middle, before) is None:
                low = middle + 1
            else:
                high = middle
        return read(self, client, low, before)

    memory.Memory.read = the_rest  # type: ignore[method-assign]


def no_gap(server: Server) -> None:
    """A client that may have missed something is told that it has all."""
    follow = Resume._follow

    def resumed(self: Any, *args: Any) -> Any:
        was, since, missed = follow(self, *args)
        return ("resumed" if was == "gap" else was), since, missed

    Resume._follow = resumed  # type: ignore[method-assign]


def no_dedupe(server: Server) -> None:
    """A POST whose number was taken before is handled again."""
    PostOrder.is_repeated = lambda self, number: False  # type: ignore[method-assign]


def no_order(server: Server) -> None:
    """A POST does not wait for those before it."""
    PostOrder.must_wait = lambda self, number: False  # type: ignore[method-assign]


def no_numbers(server: Server) -> None:
    """A client sends again all that is not acknowledged, even what the server has taken."""
    handshake = wire.resumed_handshake

    def all_again(uid: Any, data: Any, position: str, was: str, handled: int) -> Any:
        return handshake(uid, data, position, was, server.acked)

    def open_(self: Any, session: Any, asked: Any, **more: Any) -> Any:
        server.acked = asked.acked
        return opened(self, session, asked, **more)

    opened, server.acked = Resume.open, 0
    Resume.open = open_  # type: ignore[method-assign]
    wire.resumed_handshake = all_again


def no_acks(server: Server) -> None:
    """An event counts as handled before its handler is over."""

    def detached(handler: Any, msg: Any) -> Any:
        async def handle() -> None:
            await asyncio.sleep(2.0)  # long enough for a kill
            reply = handler(msg)
            msg.reply(await reply if asyncio.iscoroutine(reply) else reply)

        task = asyncio.create_task(handle())
        server.tasks.add(task)
        task.add_done_callback(server.tasks.discard)
        return LATER

    server.wait = partial(detached, server.wait)  # type: ignore[method-assign]


def no_mark(server: Server) -> None:
    """What may have been handled by a process that is gone is not marked."""
    numbers = memory.Memory.numbers

    def unmarked(self: Any, received: int, redelivered: int) -> Numbers:
        return numbers(self, received, received)

    memory.Memory.numbers = unmarked  # type: ignore[method-assign]


def no_fence(server: Server) -> None:
    """A client's old connections go on when it comes back."""
    Hub.end_connections = lambda self, session: None  # type: ignore[method-assign]


def no_replies(server: Server) -> None:
    """A reply that may have been lost is not sent again."""
    Resume._send_replies = lambda self, session, numbers, asked: None  # type: ignore[method-assign]


def no_engine(server: Server) -> None:
    """What is kept is lost when the channel stops."""
    start = channel.ChannelSocket._start

    def start_anew(self: Any, clock: Any) -> None:
        self._backplane = memory.Memory()
        start(self, clock)

    channel.ChannelSocket._start = start_anew  # type: ignore[method-assign]


def no_buffer(server: Server) -> None:
    """A client forgets an event once it is written: `RawClient.is_careless`."""


def no_late(server: Server) -> None:
    """A handshake that comes after a newer one is let in."""
    Resume.is_late = lambda *args: False  # type: ignore[method-assign]


RULES: dict[str, Callable[[Server], None]] = {
    "positions": no_positions,
    "replay": no_replay,
    "marks": no_marks,
    "gap": no_gap,
    "dedupe": no_dedupe,
    "order": no_order,
    "numbers": no_numbers,
    "acks": no_acks,
    "mark": no_mark,
    "fence": no_fence,
    "late": no_late,
    "replies": no_replies,
    "engine": no_engine,
    "buffer": no_buffer,
}
NEEDS_KILLS = {"acks", "mark"}  # show only when the server's process dies
OF_CLIENT = {"buffer"}


def switch_off(rule: str, server: Server) -> None:
    RULES[rule](server)
