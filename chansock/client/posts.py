"""The POSTs of one Ajax session: a few at a time, numbered in the order of `send`.

A server that knows the field `n` (`<udt of the handshake>-<1, 2, 3 ...>`) handles them in that
order, whatever connection brings which first; Sente's ignores it. What an answer other than
503 means is decided in ajax.py.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Final

from chansock.client.address import Attempt
from chansock.client.backoff import delay
from chansock.client.http import HttpConnection, Response
from chansock.client.link import Settings
from chansock.errors import ChannelClosed

__all__ = ["Posts", "Unsent"]

BUSY: Final = 503  # nothing of the POST was taken: it is sent again with the same number


class Unsent(Exception):
    """No connection could be opened for a POST; says why."""


class Posts:
    """Sends POSTs on at most `max_posts` connections; the rest waits, first come first served.

    What waits is not encoded yet, and is not sent if its caller is cancelled or times out.
    """

    def __init__(self, attempt: Attempt, settings: Settings) -> None:
        self._attempt = attempt
        self._settings = settings
        self._session_udt = 0
        self._is_ours = False
        self._count = 0
        self._slots = asyncio.Semaphore(settings.config.max_posts)
        self._order = asyncio.Lock()
        self._idle: list[HttpConnection] = []
        self._busy: set[HttpConnection] = set()
        self._refused: list[int] = []  # numbers that got 503
        self._changed = asyncio.Event()  # of `_refused`; a new one after each change
        self._closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def begin(self, udt: int, *, is_ours: bool) -> None:
        """Count from 1 again: the GET with this udt was answered with a handshake.

        `is_ours`: by chansock's server, which takes a packet of text as a body. Sente's takes
        forms alone, in which three bytes stand for each byte of most text.
        """
        self._session_udt = udt
        self._is_ours = is_ours
        self._count = 0

    async def post(self, encode: Callable[[], bytes]) -> Response:
        """Send the packet that encode() returns; return the response, which is never 503.

        Raises ChannelClosed if the session ends first, Unsent if no connection can be opened, and
        OSError if one breaks.
        """
        async with self._slots:
            async with self._order:
                # One that got 503 comes first: those behind it would only wait for it there.
                while self._refused and not self._closed.done():
                    await self._changed.wait()
                packet = encode()
                connection = await self._connection()
                self._count += 1
                count, udt = self._count, self._session_udt
                self._write(connection, udt, count, packet)
            response = await self._answer(connection)
            if response.status == BUSY:
                response = await self._post_again(udt, count, packet)
            return response

    def close(self) -> None:
        """End all that is under way; idempotent."""
        if not self._closed.done():
            self._closed.set_result(None)
        for connection in (*self._idle, *self._busy):
            connection.close()
        self._idle.clear()
        self._notify()

    async def _post_again(self, udt: int, count: int, packet: bytes) -> Response:
        self._refused.append(count)
        try:
            tries = 0
            while True:
                await asyncio.wait({self._closed}, timeout=delay(tries, random.random()))
                while count != min(self._refused) and not self._closed.done():
                    await self._changed.wait()
                connection = await self._connection()
                self._write(connection, udt, count, packet)
                response = await self._answer(connection)
                if response.status != BUSY:
                    return response
                tries += 1
        finally:
            self._refused.remove(count)
            self._notify()

    async def _connection(self) -> HttpConnection:
        """Take an idle connection, or open one."""
        if self._closed.done():
            raise ChannelClosed("the channel closed before this was sent")
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable:
                return connection
            connection.close()
        settings = self._settings
        try:
            connection = await HttpConnection.open(
                self._attempt.address,
                self._attempt.proxy,
                settings.ssl,
                settings.config.max_message_bytes,
            )
        except OSError as exc:
            raise Unsent(exc) from exc
        if self._closed.done():
            connection.close()
            raise ChannelClosed("the channel closed before this was sent")
        return connection

    def _write(self, connection: HttpConnection, udt: int, count: int, packet: bytes) -> None:
        now, number, text_type = int(time.time() * 1000), f"{udt}-{count}", self._settings.text_type
        if self._settings.packer.binary:
            request = self._attempt.post_body(now, number, packet)
        elif self._is_ours and text_type is not None:
            request = self._attempt.post_body(now, number, packet, text_type)
        else:
            request = self._attempt.post_form(now, number, packet)
        connection.write(request)
        self._busy.add(connection)

    async def _answer(self, connection: HttpConnection) -> Response:
        try:
            response = await connection.read()
        finally:
            self._busy.discard(connection)
        self._attempt.keep_cookies(response.getall("set-cookie"))
        if connection.is_usable and not self._closed.done():
            self._idle.append(connection)
        else:
            connection.close()
        return response

    def _notify(self) -> None:
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
