"""POSTs: each takes one packet, in its order, when there is room, and gets one answer.

The file is past 400 lines, since a POST's turn, its room, and its answer are decided together.

A POST carries its packet in one of three ways:

    Sente's text packers     a form, with the packet as its field `ppstr`
    Sente's binary packers   `?binary%3F=true`, with the packet as the body
    our clients' text        `?raw=true`, with the packet as the body, as application/edn,
                             application/json, or application/transit+json

In the last two, the other fields are in the query. `raw=true` is there because a form escapes
three bytes for each byte of most text. It needs a Content-Type that a page of another origin
can't send without a CORS preflight; a form is read as a form even if the query has `raw=true`.

Our clients number their POSTs `n=<udt of the last handshake GET>-<1, 2, 3 ...>`, since
several may be under way at once, and since browsers by themselves send a POST again whose
connection broke before the answer; Sente's come without, and are taken as they come.
Nothing is checked here that concerns who sends: the endpoint has admitted them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeAlias

from chansock._core import request_fields, wire
from chansock._fast.events.dispatch import Connection, Dispatch, Numbers
from chansock._fast.events.packet import Packer, Packet
from chansock._fast.http.request import unquote_form
from chansock._fast.io.timers import Entry, TimerQueue
from chansock.config import Config
from chansock.errors import PacketError
from chansock.request import Request, Response

__all__ = ["OTHER_PROCESS", "STOPPING", "PostOrder", "Posts", "Refusal", "parse_number"]

MAX_FIELDS: Final = 4096  # bytes of a form beside the packet: a token, some short parameters
MAX_MISSED: Final = 32  # numbers passed by that may still come; our clients have 4 under way

Refuse: TypeAlias = Callable[..., Response]  # (reason, status, text, why for the log)
Refusal: TypeAlias = tuple[str, int, str]  # reason, status, text
STOPPING: Final[Refusal] = ("stopping", 503, "the server is stopping")

# What any page may send to any origin without a preflight, as CORS-safelisted by the Fetch
# standard; a body without a type is among it.
_SIMPLE_TYPES: Final = frozenset({"", "text/plain", "multipart/form-data", request_fields.FORM})

_STALE: Final = "the handshake of this POST is over"
# A client behind a proxy that sends its requests to several processes by turns looks like one that
# comes back after its session's end, but again and again.
OTHER_PROCESS: Final = (
    ", or another process has it; if this repeats, several processes seem to serve one channel: "
    "run one (uvicorn --workers 1, gunicorn -w 1), and list one server in the proxy's upstream"
)

_NUMBER: Final = re.compile(r"([^-]{1,32})-([1-9][0-9]{0,15})")


def parse_number(text: str | None) -> tuple[str, int] | None:
    """Split `<udt>-<number>`; None if it is anything else."""
    found = None if text is None else _NUMBER.fullmatch(text)
    return None if found is None else (found[1], int(found[2]))


@dataclass(slots=True)
class Post:
    """One POST under way: its connection, which keeps its packet, and its number if it has one."""

    connection: Connection
    number: int = 0
    order: PostOrder | None = None


class PostOrder:
    """Which number of one handshake is next, and what came too early.

    `numbers` are those of a client that resumes, which go on over its handshakes. Then none is
    passed by: what does not come is sent again, with all behind it.
    """

    __slots__ = ("missed", "next", "numbers", "stalled", "timer", "udt", "unanswered", "waiting")

    def __init__(self, udt: str, numbers: Numbers | None = None) -> None:
        self.udt: str = udt
        self.numbers = numbers
        self.next: int = 1 if numbers is None else numbers.received + 1
        self.waiting: dict[int, Post] = {}
        self.missed: set[int] = set()  # passed by before they came
        self.stalled: dict[int, Post] = {}  # those whose turn it is, without room
        self.timer: Entry | None = None  # until when those missing are waited for
        self.unanswered: list[Connection] = []  # of a client that resumes: a handler has them

    def must_wait(self, number: int) -> bool:
        """Return whether a number before this one is still missing."""
        return number > self.next

    def is_repeated(self, number: int) -> bool:
        """Return whether this number has been handed on before."""
        return number < self.next and number not in self.missed and number not in self.stalled

    def pass_by(self, number: int) -> None:
        """Count a number as handled; one that was passed already changes nothing more."""
        self.missed.discard(number)
        self.next = max(self.next, number + 1)

    def miss(self, number: int) -> None:
        """Note that a number was not handled and may come again; the newest are remembered."""
        self.missed.add(number)
        if len(self.missed) > MAX_MISSED:
            self.missed.remove(min(self.missed))

    def go_back(self, number: int) -> None:
        """Expect a number again that was refused and will come once more."""
        self.next = min(self.next, number)

    def note_unanswered(self, connection: Connection) -> None:
        """Note a POST that waits for its reply, and forget those that have theirs."""
        self.unanswered = [each for each in self.unanswered if not each.is_answered]
        self.unanswered.append(connection)

    def pop_next(self) -> Post | None:
        """Take out what waits for its turn and has it now."""
        return self.waiting.pop(self.next, None)

    def skip(self) -> None:
        """Wait no longer for those missing: go on with the smallest that is here."""
        if self.waiting:
            first = min(self.waiting)
            self.missed = set(range(max(self.next, first - MAX_MISSED), first))
            self.next = max(self.next, first)


class Posts:
    """The POSTs of one channel. `refuse(reason, status, text, why)` counts, logs, and words a
    refusal."""

    def __init__(
        self,
        config: Config,
        packer: Packer,
        dispatch: Dispatch,
        timers: TimerQueue,
        refuse: Refuse,
    ) -> None:
        self._config = config
        self._packer = packer
        self._dispatch = dispatch
        self._timers = timers
        self._refuse = refuse
        self._dummy = Packet(packer.packet(wire.DUMMY_CB_200, None), packer.binary)
        self._timeout = Packet(packer.packet(wire.TIMEOUT, None), packer.binary)

    def take(self, connection: Connection, body: Any, order: PostOrder | None) -> None:
        """Take the packet of a POST when it is its turn; `order` is its session's, if any."""
        packet = self._packet(connection.request, body)
        if isinstance(packet, Response):
            self._answer(connection, packet)
            return
        if self._dispatch.is_stopping:
            self.end(connection)
            return
        post = Post(connection)
        numbered = parse_number(connection.request.params.get("n"))
        if numbered is not None:
            if order is None or numbered[0] != order.udt:
                # Sent again by a browser, maybe: whether it was handled, nobody knows any more,
                # and what its client sent since may be here already.
                refused = self._refuse("stale_post", 410, _STALE, f"{_STALE}{OTHER_PROCESS}")
                self._answer(connection, refused)
                return
            post.order, post.number = order, numbered[1]
            if order.numbers is not None:
                connection.number = post.number
            if order.is_repeated(post.number):
                if order.numbers is not None:
                    self._answer_again(post, order.numbers, packet)
                    return
                # Who asked for no reply has it by this 200; a reply went to the first.
                connection.answer(self._timeout)
                return
        self._dispatch.posts.add(connection)
        connection.keep(packet)
        if connection.session is None:
            self._dispatch.strays.add(connection)
        self._place(post)

    def _answer_again(self, post: Post, numbers: Numbers, packet: bytes) -> None:
        """Answer a POST of a client that resumes, whose event was taken before."""
        connection, number, order = post.connection, post.number, post.order
        reply = self._kept_reply(numbers, number)
        is_handled = number <= numbers.handled_by(connection.inbox)
        if reply is not None or (is_handled and not self._wants_reply(packet)):
            # To a POST that wants no reply, a timeout is as good as any answer.
            connection.answer(reply or self._timeout)
            return
        # A reply that is not here may come later: see LATER.
        older = numbers.wait(number, partial(self._finish_again, connection))
        if older is not None:
            self._sent_again(older.args[0])
        if order is not None:
            order.note_unanswered(connection)
        self._dispatch.posts.add(connection)
        connection.timer = self._timers.schedule(
            self._config.poll_timeout, self._reply_due, connection
        )

    def _finish_again(self, connection: Connection, packet: bytes | None) -> bool:
        reply = None if packet is None else Packet(packet, self._packer.binary)
        if reply is None and connection.inbox.numbers is not None:
            reply = self._kept_reply(connection.inbox.numbers, connection.number)
        return connection.answer(reply or self._timeout)

    def _kept_reply(self, numbers: Numbers, number: int) -> Packet | None:
        for found, packet in numbers.replies_from(number):
            if found == number:
                return Packet(packet, self._packer.binary)
        return None

    def _wants_reply(self, packet: bytes) -> bool:
        try:
            return self._packer.unpack(memoryview(packet))[1] is not None
        except PacketError:
            return False

    def end_order(self, order: PostOrder | None) -> None:
        """Answer the POSTs of an older handshake that wait.

        Their client sends those again that were not taken. It reads no more answers to the others:
        their replies come as events.
        """
        if order is None:
            return
        self._timers.cancel(order.timer)
        order.timer = None
        waiting = [post.connection for post in (*order.waiting.values(), *order.stalled.values())]
        for connection in (*waiting, *order.unanswered):
            if not connection.is_answered:
                self._answer(connection, self._refuse("stale_post", 410, _STALE))
        order.waiting.clear()
        order.stalled.clear()
        order.unanswered.clear()

    def refuse_waiting(self) -> None:
        """Answer those of which nothing was taken: the channel takes nothing more."""
        for connection in list(self._dispatch.posts):
            if not connection.wants_reply:
                self.end(connection)

    def stop(self) -> None:
        """Answer all that wait."""
        for connection in list(self._dispatch.posts):
            self.end(connection)

    def end(self, connection: Connection, refusal: Refusal = STOPPING) -> None:
        """Answer one that waits: the refusal (503) where nothing was taken, so that the client
        sends it again; `[:chsk/timeout nil]` where a handler has it, which must not see it
        twice. That cannot happen to an event of a client that resumes."""
        if connection.wants_reply and not connection.number:
            connection.answer(self._timeout)
        else:
            self._answer(connection, self._refuse(*refusal))

    def _packet(self, request: Request, body: Any) -> bytes | Response:
        params, binary = request.params, self._packer.binary
        limit = self._config.max_message_bytes
        packet: bytes
        if ("binary?" in params) != binary:
            expected = "a binary body with binary?" if binary else "the form field ppstr"
            return self._refuse("bad_post", 400, f"expected {expected}")
        if binary:
            packet = bytes(body)
            if not packet[limit:].strip(b"\0"):
                packet = packet[:limit]  # Sente's MessagePack has its buffer's zeros behind it
        elif params.get("raw") == "true" and not request_fields.is_form(request):
            kinds = request.headers.getall("content-type")
            if len(kinds) != 1 or request_fields.essence(kinds[0]) in _SIMPLE_TYPES:
                expected = "expected a Content-Type like application/edn for raw=true"
                return self._refuse("bad_post", 415, f"{expected}, got {', '.join(kinds)!r:.80}")
            packet = bytes(body)
        else:
            given = params.raw("ppstr")
            if len(given) > 1:
                return self._refuse("bad_post", 400, f"expected one ppstr, got {len(given)}")
            packet = unquote_form(given[0]) if given else b""
            if body and request_fields.is_form(request):
                # The request lives as long as its event: it must not hold the packet again.
                rest = b"&".join(f for f in bytes(body).split(b"&") if not f.startswith(b"ppstr="))
                if len(rest) > MAX_FIELDS:
                    return self._refuse(
                        "too_big", 413, f"expected at most {MAX_FIELDS} bytes beside ppstr"
                    )
                request.set_form(rest)
        if len(packet) > limit:
            return self._refuse(
                "too_big", 413, f"expected at most {limit} bytes (max_message_bytes)"
            )
        return packet

    # -- its turn

    def _place(self, post: Post) -> None:
        order = post.order
        if order is None:
            self._hand_on(post)
            return
        if order.must_wait(post.number) or post.number in order.waiting:
            is_too_many = len(order.waiting) >= self._config.max_inbox_events
            if is_too_many or self._is_too_much(post.connection):
                self._answer(
                    post.connection, self._refuse("inbox_full", 503, "too many POSTs wait")
                )
                return
            older = order.waiting.get(post.number)
            order.waiting[post.number] = post
            if older is not None:
                self._sent_again(older.connection)
            if order.timer is None:
                self._wait_for_order(order)
            return
        stalled = order.stalled.get(post.number)
        if stalled is not None:
            self._replace(stalled, post.connection)
            return
        order.pass_by(post.number)
        self._hand_on(post)
        self._place_waiting(order)

    def _replace(self, stalled: Post, connection: Connection) -> None:
        """Put a POST that was sent again in the place of the first, which waits for room."""
        self._sent_again(stalled.connection)
        if self._is_too_much(connection):
            self._no_room(Post(connection))
            return
        stalled.connection = connection
        self._bound_wait(stalled)

    def _sent_again(self, connection: Connection) -> None:
        # Nobody awaits this answer.
        self._answer(connection, self._refuse("repeated", 503, "sent again"))

    def _place_waiting(self, order: PostOrder) -> None:
        while not self._dispatch.is_spent and (post := order.pop_next()) is not None:
            if post.connection.is_answered:
                break  # its peer has gone, and may send it again: it is missing
            order.pass_by(post.number)
            self._hand_on(post)
        if not order.waiting:
            self._timers.cancel(order.timer)
            order.timer = None
        elif order.next in order.waiting:
            self._timers.cancel(order.timer)
            order.timer = self._timers.schedule(0.0, self._turn_came, order)

    def _turn_came(self, order: PostOrder) -> None:
        order.timer = None
        self._place_waiting(order)
        if order.waiting and order.timer is None:
            self._wait_for_order(order)

    def _wait_for_order(self, order: PostOrder) -> None:
        order.timer = self._timers.schedule(self._config.post_order_wait, self._order_due, order)

    def _order_due(self, order: PostOrder) -> None:
        if order.numbers is not None:
            waiting = list(order.waiting.values())
            order.waiting.clear()
            order.timer = None
            for post in waiting:
                text = "a POST before this one is missing"
                self._answer(post.connection, self._refuse("post_order", 503, text))
            return
        order.skip()
        self._turn_came(order)

    # -- its room

    def _hand_on(self, post: Post) -> None:
        connection = post.connection
        packet = connection.packet
        assert packet is not None  # it is not answered yet
        if self._dispatch.is_stopping:
            self.end(connection)
            return
        try:
            is_taken = connection.receive(packet, not self._packer.binary)
        except PacketError as error:
            self._answer(connection, Response(400, str(error)[:200]))
            return
        if not is_taken:
            self._wait_for_room(post)
            return
        connection.let_go()
        if post.order is not None:
            post.order.stalled.pop(post.number, None)
        self._timers.cancel(connection.timer)
        connection.timer = None
        if connection.is_answered:
            return
        if connection.wants_reply:
            if post.order is not None and post.order.numbers is not None:
                post.order.note_unanswered(connection)
            connection.timer = self._timers.schedule(
                self._config.poll_timeout, self._reply_due, connection
            )
        else:
            connection.answer(self._dummy)

    def _wait_for_room(self, post: Post) -> None:
        connection = post.connection
        is_too_many = connection.inbox.stalled_count >= self._config.max_inbox_events
        if is_too_many or self._is_too_much(connection):
            self._no_room(post)
            return
        connection.inbox.when_room(partial(self._try_again, post))
        if post.order is not None:
            post.order.stalled[post.number] = post
        self._bound_wait(post)

    def _bound_wait(self, post: Post) -> None:
        if post.connection.timer is None:
            post.connection.timer = self._timers.schedule(
                self._config.poll_timeout, self._no_room, post
            )

    def _is_too_much(self, connection: Connection) -> bool:
        """Return whether the POSTs that wait hold too much, this one included; a single one may."""
        waiting = connection.inbox.waiting
        return waiting > self._config.max_inbox_bytes and waiting > connection.packet_bytes

    def _try_again(self, post: Post) -> None:
        order = post.order
        if not post.connection.is_answered:
            self._hand_on(post)
        elif order is not None and order.stalled.get(post.number) is post:
            # Its peer has gone, and may send it again.
            if order.numbers is not None:
                self._no_room(post)
                return
            del order.stalled[post.number]
            order.miss(post.number)

    def _no_room(self, post: Post) -> None:
        posts = [post]
        if post.order is not None:
            # Our client sends it again; those behind it must not come before it then.
            post.order.go_back(post.number)
            stalled = post.order.stalled
            stalled.pop(post.number, None)
            posts += [stalled.pop(n) for n in sorted(stalled) if n > post.number]
        for each in posts:
            if each.connection.is_answered:
                continue
            response = self._refuse("inbox_full", 503, "too many events wait to be handled")
            self._answer(each.connection, response)

    # -- its answer

    def _reply_due(self, connection: Connection) -> None:
        connection.answer(self._timeout)

    @staticmethod
    def _answer(connection: Connection, response: Response) -> None:
        connection.forget()
        connection.transport.refuse(response)
