"""The Ajax half of the client: polls on one kept connection, POSTs on up to four.

One link is one session of polls, from a handshake to the first failure. No backoff between
sessions and no WebSocket here; how HTTP is read is in http.py, what packets mean in packets.py.
"""

from __future__ import annotations

import asyncio
import logging
import time

from chansock._core.wire import AJAX
from chansock.client.address import Attempt
from chansock.client.http import HttpConnection, Response
from chansock.client.link import Owner, Settings
from chansock.client.packets import Events, Handshake, Inbound, read_packet, reply_error
from chansock.client.posts import Posts
from chansock.client.state import Reason, ReasonKind, TransportType, http_reason, said
from chansock.errors import ChannelClosed, PacketError, ReplyError, ReplyTimeout

__all__ = ["AjaxLink"]

log = logging.getLogger("chansock.client.ajax")


class _Failed(Exception):
    """A request that ends the link; carries the reason."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class AjaxLink:
    """One Ajax session, from its handshake to its end."""

    type: TransportType = "ajax"

    def __init__(self, attempt: Attempt, settings: Settings, owner: Owner) -> None:
        self._attempt = attempt
        self._settings = settings
        self._owner = owner
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[Reason] = self._loop.create_future()
        self._is_open = False
        self._poller: HttpConnection | None = None
        self._posts = Posts(attempt, settings)
        self._may_poll = asyncio.Event()
        self._may_poll.set()
        self._udt = 0
        self._handshake_udt = 0
        self.is_reached = False

    async def run(self) -> Reason:
        """Shake hands, poll until something fails; give the reason of the end."""
        polling = self._loop.create_task(self._poll())
        try:
            await asyncio.wait({polling, self._ended}, return_when=asyncio.FIRST_COMPLETED)
            if polling.done():
                self._end(polling.result())
            return self._ended.result()
        finally:
            polling.cancel()
            await asyncio.wait({polling})
            self._end(Reason("requested-disconnect"))  # if it was cancelled

    async def shake_hands(self) -> Reason | None:
        """Ask for one handshake and no more; give why it was refused, None if it was not.

        A WebSocket that does not open cannot tell; this can.
        """
        try:
            self._read(await self._handshake())
        except _Failed as exc:
            return exc.reason
        finally:
            self._end(Reason("requested-disconnect"))
        return None

    def stop(self, reason: Reason, /) -> None:
        """End it at once; Ajax has no word for goodbye but the dropped poll."""
        self._end(reason)

    def break_off(self, code: int, /, *, is_noticed: bool) -> None:
        """Drop the poll; that is noticed at once, whatever is asked."""
        if self._poller is not None:
            self._poller.close()

    async def send(self, value: object, timeout: float | None, /) -> object:
        """POST an event; with a timeout, the response is its reply."""
        packet = self._settings.packer.packet(value, None if timeout is None else AJAX)
        if self._ended.done():
            raise ChannelClosed(f"the channel is closed ({self._ended.result().kind})")
        limit = self._settings.ajax_timeout if timeout is None else timeout
        try:
            async with asyncio.timeout(limit):
                response = await self._posts.post(packet)
        except TimeoutError:
            what = "a reply" if timeout is not None else "an answer to the POST"
            raise ReplyTimeout(f"expected {what} within {limit:g} s, got none") from None
        except ChannelClosed:
            raise
        except OSError as exc:
            self._end(Reason("unexpected", None, f"POST: {exc}"))  # unless it has ended before
            why = self._ended.result()
            raise ChannelClosed(f"the POST got no answer: {exc} ({why})") from exc
        if response.status != 200:
            reason = http_reason(response.status, said(response.body), was_open=True)
            if response.status in (400, 413):  # this packet alone is at fault
                raise ReplyError(f"expected 200 to the POST, got {reason.code}: {reason.text}")
            self._end(reason)
            raise ChannelClosed(f"expected 200 to the POST, got {reason.code}: {reason.text}")
        return None if timeout is None else self._reply(response)

    def set_reading(self, on: bool, /) -> None:
        """Stop or go on asking for events; the poll that is out is still taken."""
        if on:
            self._may_poll.set()
        else:
            self._may_poll.clear()

    async def gone(self) -> None:
        """Nothing lingers: connections are closed where the link ends."""

    # polls

    async def _poll(self) -> Reason:
        try:
            response = await self._handshake()
            while True:
                inbound = self._read(response)
                # The next poll goes out before the events of this one are handled, as Sente's
                # does: what the server sends meanwhile finds it parked. Not if they are too many.
                self._handshake_udt = self._udt  # if it was answered with one
                count = len(inbound.events) if isinstance(inbound, Events) else 0
                is_early = not self._owner.would_fill(count)
                if is_early:
                    await self._ask(wants_handshake=False)
                self._deliver(inbound)
                if not is_early:
                    await self._may_poll.wait()
                    await self._ask(wants_handshake=False)
                response = await self._answer_to_poll()
        except _Failed as exc:
            return exc.reason

    async def _handshake(self) -> Response:
        try:
            async with asyncio.timeout(self._settings.connect_timeout):
                await self._ask(wants_handshake=True)
                return await self._answer()
        except TimeoutError:
            raise _Failed(Reason("not-opened", None, "connect time-out")) from None

    async def _answer_to_poll(self) -> Response:
        """Wait for the poll's response; one that never comes is asked for again (Sente's rule)."""
        while True:
            try:
                async with asyncio.timeout(self._settings.ajax_timeout):
                    return await self._answer()
            except TimeoutError:
                await self._ask(wants_handshake=False)

    async def _ask(self, *, wants_handshake: bool) -> None:
        # Milliseconds, but never the same twice: the server tells POSTs of one session by it.
        self._udt = max(int(time.time() * 1000), self._udt + 1)
        try:
            if self._poller is None or not self._poller.is_usable:
                if self._poller is not None:
                    self._poller.close()
                settings = self._settings
                self._poller = await HttpConnection.open(
                    self._attempt.address, settings.ssl, settings.max_message_bytes
                )
            self.is_reached = True
            self._poller.write(self._attempt.get(self._udt, wants_handshake=wants_handshake))
        except OSError as exc:
            raise _Failed(self._broken(exc)) from exc

    async def _answer(self) -> Response:
        assert self._poller is not None  # _ask went before
        try:
            response = await self._poller.read()
        except OSError as exc:
            raise _Failed(self._broken(exc)) from exc
        self._attempt.keep_cookies(response.getall("set-cookie"))
        if response.status != 200:
            reason = http_reason(response.status, said(response.body), was_open=self._is_open)
            raise _Failed(reason)
        return response

    def _read(self, response: Response) -> Inbound:
        try:
            inbound = read_packet(*self._settings.packer.unpack(memoryview(response.body)))
        except PacketError as exc:
            self._settings.log_limit.warning(log, "bad_packet transport=ajax %s", exc)
            text = f"cannot read a packet: {exc}"[:200]
            raise _Failed(self._broken(PacketError(text))) from exc
        if not self._is_open and not isinstance(inbound, Handshake):
            raise _Failed(Reason("not-opened", None, "expected a handshake, got another packet"))
        return inbound

    def _deliver(self, inbound: Inbound) -> None:
        if isinstance(inbound, Handshake):
            self._is_open = True
            self._posts.begin(self._handshake_udt)
            self._owner.opened(self, inbound)
        else:
            self._owner.received(self, inbound)

    def _broken(self, exc: BaseException) -> Reason:
        kind: ReasonKind = "unexpected" if self._is_open else "not-opened"
        return Reason(kind, None, str(exc) or type(exc).__name__)

    def _reply(self, response: Response) -> object:
        if not response.body:
            raise ReplyError("expected a reply, got an empty body")
        try:
            value, _ = self._settings.packer.unpack(memoryview(response.body))
        except PacketError as exc:
            raise ReplyError(str(exc)) from exc
        if (error := reply_error(value)) is not None:
            raise error
        return value

    def _end(self, reason: Reason) -> None:
        if not self._ended.done():
            self._ended.set_result(reason)
        if self._poller is not None:
            self._poller.close()
            self._poller = None
        self._posts.close()
