# cython: language_level=3
"""From a packet to an event to a handler to a reply, once per event.

The checks of each received event are here: envelope, event shape, namespaced id, the `chsk`
namespace. The rules for sent events live in `_core/event`, the grammar's constants in `_core/wire`,
which the caller passes. No user, no hook, no presence, no socket: the dispatch tells a Transport
whether to read, and puts replies into an Outbox.

It is past 600 lines: an event, its room in the inbox, and its handler share one state. Its parts:
`weight` has what a decoded value holds in memory, and `numbers` has the numbers of the events of a
client that resumes.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int32_t, int64_t, uint8_t
from libc cimport stdlib
from libc.string cimport memcpy
from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.io.cpython_api cimport steal_ref
from chansock._fast.io.transport cimport Link, Transport
from chansock._fast.events.fanout cimport Fanout, Fragment, Outbox
from chansock._fast.events.packet cimport Packet, Packer, unpack_message

import logging
from asyncio import CancelledError
from collections import deque
from contextvars import copy_context
from functools import partial
from types import GenericAlias

from chansock._fast.io import tasks
from chansock.errors import PacketError
from chansock.target import ClientTarget
from chansock.values import short_repr

cdef extern from *:
    """
    #include <pythread.h>
    static inline int chansock_is_awaitable(PyObject *value) {
        PyAsyncMethods *methods = Py_TYPE(value)->tp_as_async;
        return methods != NULL && methods->am_await != NULL;
    }
    """
    bint chansock_is_awaitable(object value) noexcept
    unsigned long PyThread_get_thread_ident() noexcept

cdef extern from "io/epoll.h":
    int64_t cpu_time "chansock_cpu_time" ()  # microseconds

include "numbers.pxi"
include "weight.pxi"

log = logging.getLogger("chansock.dispatch")
cdef object NOT_BEGUN = tasks.NOT_BEGUN, WAITS = tasks.WAITS


cpdef bint is_awaitable(object value) noexcept:
    """Return whether value can be awaited."""
    return chansock_is_awaitable(value)


cdef enum:
    # Bytes that an event counts besides its value: its EventMsg, its place, the head of its bytes.
    AROUND = 192
    # A packet of at most this size is decoded at once, even behind a handler that waits: it may be
    # a ping, whose client waits for the pong. Sente's client reconnects after 5 s without one.
    MAX_PING = 128
    MAX_PING_WEIGHT = 16384     # of its value: more than any of edn's in 128 bytes
    MAX_SPENT = 10_000          # microseconds of decoding what waits, until others have their turn

cdef int64_t MAX_NUMBER = 1 << 53

# Faults that are logged once for each connection.
cdef enum:
    BAD_PACKET = 1
    BAD_EVENT = 2
    FORGED = 4


@cython.final
cdef class Later:
    """The type of LATER, which a handler returns if it replies later, by `msg.reply(value)`.

        @chsk.on("export/start")
        def start(msg):
            jobs.append(msg)          # whose worker calls msg.reply(url)
            return chansock.LATER
    """

    def __repr__(self):
        return "chansock.LATER"


LATER = Later()


@cython.final
cdef class Route:
    """One handler: `handler(msg)`, and whether it may overlap with the next events."""

    def __cinit__(self, handler, bint is_parallel=False):
        self.handler = handler
        self.is_parallel = is_parallel


@cython.final
cdef class Inbox:
    """A session's events that no handler has finished, and the bytes that they hold."""

    def when_room(self, call):
        """Call `call` once when an event is finished, in the order of these calls."""
        if self.stalled is None:
            self.stalled = {}
        self.stalled[call] = None

    def forget(self, call):
        """Cancel `when_room(call)`."""
        if self.stalled is not None:
            self.stalled.pop(call, None)
            self.stalled = self.stalled or None

    @property
    def stalled_count(self):
        """The number of callers that wait for room."""
        return 0 if self.stalled is None else len(self.stalled)

    def resume(self, Dispatch dispatch not None):
        """Call those that wait for room, as far as a turn allows; the dispatch calls this."""
        cdef list calls = list(self.stalled or ())
        cdef Py_ssize_t done = 0
        self.stalled = None
        self.is_resuming = False
        try:
            for call in calls:
                if dispatch.is_spent:
                    break
                done += 1
                call()
        finally:
            if done < len(calls):       # one may have raised: keep those behind it
                self.stalled = {**dict.fromkeys(calls[done:]), **(self.stalled or {})}
                if dispatch.is_spent:
                    dispatch.wait_for_turn(self)

    def renewed(self):
        """Return an empty inbox for the same client: the events in this one were dropped."""
        cdef Inbox inbox = Inbox()
        inbox.numbers = self.numbers
        return inbox


@cython.final
cdef class Connection(Link):
    """One live socket or poll of a session, or one POST, as an edge and the hub see it."""

    def __cinit__(
        self, Dispatch dispatch not None, Transport transport not None, request, uid,
        str client_id, session, Inbox inbox not None, bint is_post=False,
    ):
        self.dispatch = dispatch
        self.transport = transport
        self.request = request
        self.uid = uid
        self.client_id = client_id
        self.session = session
        self.inbox = inbox
        self.is_post = is_post

    cdef int take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1:
        cdef Dispatch dispatch = self.dispatch
        cdef Inbox inbox = self.inbox
        cdef EventMsg msg
        cdef PyObject* parts[3]
        cdef int length
        # FIFO: earlier waiters go first, even if there is room by now.
        if dispatch.is_stopping or self.is_ending or inbox.stalled is not None or (
            inbox.events and (
                inbox.events >= dispatch.max_events or inbox.nbytes + size > dispatch.max_bytes
            )
        ):
            return self.no_room()
        if inbox.is_running or inbox.queue is not None:
            return self.take_behind(data, size, is_text)
        try:
            length = unpack_message(dispatch.packer, data, size, is_text, parts)
        except PacketError as error:
            return self.refuse_packet(error)
        msg = dispatch.event(
            self, length, steal_ref(parts[0]), steal_ref(parts[1]), steal_ref(parts[2]), None
        )
        if msg is not None:
            msg.size = size
            dispatch.admit(msg, inbox)
        if inbox.numbers is not None:
            self.count_bytes(inbox.numbers, size)
        return 1

    cdef inline int count_bytes(self, Numbers numbers, Py_ssize_t size) except -1:
        # Acknowledge events once many have come.
        numbers.told_bytes += size
        if numbers.received - numbers.told >= ACK_EVENTS or numbers.told_bytes >= ACK_BYTES:
            return self.acknowledge()
        return 0

    cdef int acknowledge(self) except -1:
        # Acknowledge the client's events: on a socket together with the replies of this read.
        cdef Dispatch dispatch = self.dispatch
        cdef Numbers numbers = self.inbox.numbers
        cdef Packet packet
        if self.is_post or self.outbox is None or self.is_ending:
            return dispatch.acknowledge(self.inbox)
        numbers.told, numbers.told_bytes = numbers.received, 0
        packet = dispatch.new_ack(self.inbox)
        if packet is not None:
            self.outbox.put_reply(dispatch.written, packet.body())
        return 0

    cdef int take_behind(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1:
        # Take a message behind a handler that waits: as bytes, unless it has to be decoded.
        cdef Dispatch dispatch = self.dispatch
        cdef Inbox inbox = self.inbox
        cdef Py_ssize_t room = dispatch.max_bytes - inbox.nbytes
        cdef Py_ssize_t held
        cdef EventMsg msg
        cdef PyObject* parts[3]
        cdef int length
        if size + AROUND > room or self.needs > room:
            return self.no_room()
        if inbox.numbers is not None:
            self.count_bytes(inbox.numbers, size)
        if size > MAX_PING and not self.is_post:
            return dispatch.put_off(self, data, size, is_text)
        try:
            length = unpack_message(dispatch.packer, data, size, is_text, parts)
        except PacketError as error:
            return self.refuse_packet(error)
        event_id, value, cb_id = steal_ref(parts[0]), steal_ref(parts[1]), steal_ref(parts[2])
        held = dispatch.weigh(value, cb_id)
        if self.is_post:
            # The answer to a POST depends on its value, so it is decoded at once. If the value is
            # too large, the packet waits as bytes until there is room for the value.
            if length and held > room:
                self.needs = held
                return self.no_room()
        elif held > MAX_PING_WEIGHT:
            return dispatch.put_off(self, data, size, is_text)
        msg = dispatch.event(self, length, event_id, value, cb_id, None)
        if msg is not None:
            msg.size = held
            msg.is_weighed = True
            dispatch.admit(msg, inbox)
        return 1

    cdef int no_room(self) except -1:
        # The dispatch calls `read_on`; `_core/posts` tries a POST again.
        if not (self.is_post or self.is_ending):
            self.inbox.when_room(self.read_on)
        return 0

    cdef int refuse_packet(self, error) except -1:
        self.count_event()
        self.refuse_counted_packet(error)
        if self.is_post:
            raise error
        return 1

    cdef int refuse_counted_packet(self, error) except -1:
        self.dispatch.bad_packet += 1
        self._complain(BAD_PACKET, "bad_packet", "expected a packet", error)
        return 0

    cdef int64_t count_event(self) except -1:
        # Return the number of the event that comes now; 0: its client does not number.
        cdef Numbers numbers = self.inbox.numbers
        if numbers is None:
            return 0
        if not self.is_post:
            numbers.received += 1
            return numbers.received
        if self.number:
            numbers.received = max(numbers.received, self.number)
        return self.number

    def read_on(self):
        """Read on: the edge passes the message again that had no room."""
        if self.dispatch.is_stopping:
            self.inbox.when_room(self.read_on)
            return
        self.transport.heard = True     # it was silent only because it was not read
        self.transport.set_reading(True)

    def leave(self):
        """Wait for room no more: the socket has closed."""
        self.inbox.forget(self.read_on)

    def keep(self, bytes packet not None):
        """Keep the packet of a POST until its turn comes, or there is room for it."""
        self.packet = packet
        self.inbox.waiting += self.packet_bytes

    @property
    def packet_bytes(self):
        """The bytes that the kept packet counts in inbox.waiting."""
        return 0 if self.packet is None else PyBytes_GET_SIZE(self.packet) + AROUND

    def let_go(self):
        """Return the packet that was kept, and drop it here; None: there is none."""
        cdef bytes packet = self.packet
        self.inbox.waiting -= self.packet_bytes
        self.packet = None
        return packet

    def receive(self, view, bint is_text=True):
        """Take one message from an edge in Python. False: no room, pass it again later.

        Raises PacketError if a POST is not a packet. A socket's message that is none is dropped.
        """
        cdef const uint8_t[::1] memory = view
        cdef Py_ssize_t size = memory.shape[0]
        cdef int64_t since = cpu_time()
        try:
            return bool(self.take(&memory[0] if size else NULL, size, is_text))
        finally:
            self.dispatch.took_since(since)

    cdef int cork(self) except -1:
        if self.outbox is not None:
            self.outbox.flush()
        return 0

    def corked(self):
        """Send all replies of one read in one send; for edges in Python."""
        self.cork()

    cdef bint send_reply(self, WriteBuffer out, bytes whole, int64_t number) except -1:
        cdef Outbox box = self.outbox
        cdef Connection newest
        if number:
            self.keep_reply(out, whole, number)
            if self.is_ending and self.inbox.numbers is not None:
                box = None      # its client came back, and reads this socket no more
        if box is not None and not self.is_post and not self.dispatch.is_stopped:
            box.put_reply(out, whole)
            return True
        whole = out.take() if whole is None else whole
        if self.is_post:
            return self.answer_post(whole, number) or self.send_late_reply(whole, number)
        if not self.dispatch.is_stopped:
            # Callback ids outlive the socket: use the session's present one.
            session = self.session
            if number and self.inbox.numbers is not None:
                session = self.inbox.numbers.session
            if session is not None and session.ws is not None:
                newest = session.ws
                if not newest.is_ending or self.inbox.numbers is None:
                    box = newest.outbox
                if box is not None:
                    box.put_reply(out, whole)
                    return True
        return self.send_late_reply(whole, number)

    cdef bint answer_post(self, bytes whole, int64_t number) except -1:
        # Write the reply of a POST; False if nobody took it.
        cdef Numbers numbers = self.inbox.numbers if number else None
        cdef bint is_sent = self.answer(Packet(whole, self.dispatch.packer.binary))
        # If it was sent again, the first one's peer may be gone, and nobody has noticed.
        return (numbers is not None and numbers.answer_waiter(number, whole)) or is_sent

    cdef int keep_reply(self, WriteBuffer out, bytes whole, int64_t number) except -1:
        # Keep a reply for the case that it does not arrive.
        cdef Numbers numbers = self.inbox.numbers
        if numbers is None:
            return 0
        if whole is None:
            return numbers.keep_reply(number, out.data, out.size)
        return numbers.keep_reply(number, <const uint8_t*>whole, len(whole))

    cdef bint send_late_reply(self, bytes whole, int64_t number) except -1:
        # The connection of a reply is gone. A client that resumes gets it as an event.
        cdef Numbers numbers = self.inbox.numbers if number else None
        cdef Dispatch dispatch = self.dispatch
        if numbers is None:
            dispatch.fanout.reply_lost += 1
            return False
        if not numbers.answer_waiter(number, whole):
            session = numbers.session       # maybe of a later start of the channel
            if session is not None and not session.is_gone:
                session.fanout.send(session, dispatch.late_reply(number, whole))
            elif dispatch.cluster is not None:
                client = ClientTarget(self.uid, self.client_id)
                dispatch.cluster.reply_late(client, dispatch.late_reply(number, whole))
        return True     # kept, and sent when the client asks for it

    def put(self, Packet packet not None):
        """Put a packet of the channel's own into the outbox of this connection."""
        if self.outbox is not None:
            self.outbox.put_packet(packet)

    def answer(self, Packet packet not None):
        """Write the one response of a POST; False if it is gone or has its response."""
        cdef bint is_written = not self.is_answered and self.transport.write([packet])
        self.forget()
        return is_written

    def forget(self):
        """Stop waiting for the reply to a POST: it has its response, or its peer has gone."""
        cdef EventMsg event = self.event
        self.is_answered = True
        self.dispatch.posts.discard(self)
        self.dispatch.strays.discard(self)
        self.let_go()
        self.dispatch.fanout.timers.cancel(self.timer)
        self.event = self.timer = None
        if event is not None and event.is_later:
            self.dispatch.done(event)

    @property
    def wants_reply(self):
        """True if a POST still waits for its handler's reply."""
        return self.event is not None

    def _complain(self, int what, str log_id not None, str expected not None, got):
        # Log once for each connection and kind of fault, the rest as a number: see log_limit.
        log_limit = self.dispatch.fanout.timers.log_limit
        if self.has_complained & what:
            return log_limit.count(log_id)
        self.has_complained |= what
        log_limit.warning(log, log_id + " uid=%r client=%r: %s, got %s",
                          self.uid, self.client_id[:8], expected, short_repr(got))


@cython.freelist(64)
cdef class EventMsg:
    """One event of a client, as a handler gets it.

    `id` is a Keyword (a str). `data` is the event's data or None, converted to T for EventMsg[T].
    `uid` is None for an anonymous client. `client` is a target for `send` and `disconnect`: this
    one session.
    """

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)

    @property
    def _connection(self):
        return self.connection

    @property
    def uid(self):
        """The user id, or None."""
        return self.connection.uid

    @property
    def client_id(self):
        """The id of one tab or process; a secret if the client is anonymous."""
        return self.connection.client_id

    @property
    def client(self):
        """A target that means this one session."""
        return ClientTarget(self.connection.uid, self.connection.client_id)

    @property
    def request(self):
        """The HTTP request of the handshake; over Ajax the POST's own."""
        return self.connection.request

    @property
    def chsk(self):
        """The ChannelSocket that received it."""
        return self.connection.dispatch.sender

    @property
    def wants_reply(self):
        """True if the client requested a reply and has none yet."""
        return self.cb_id is not None and not self.is_replied

    @property
    def key(self):
        """A str that names this event of this client for ever; None: the client does not resume.

        It is the same if the event is redelivered. It holds the client-id.
        """
        return f"{self.connection.client_id}-{self.number}" if self.number else None

    @property
    def is_redelivered(self):
        """Whether the event may have been handled before, by a server that is gone."""
        cdef Numbers numbers = self.connection.inbox.numbers
        return numbers is not None and 0 < self.number <= numbers.redelivered

    cpdef reply(self, value=None):
        """Answer the event: `[value cb-id]`, over Ajax the POST's response `[value nil]`.

        Returns False if the client wants no reply (any more), or is gone. May be called from any
        thread. Raises EncodeError if value cannot be written.
        """
        cdef Dispatch dispatch = self.connection.dispatch
        cdef bint is_own = PyThread_get_thread_ident() == dispatch.thread
        cdef WriteBuffer out = dispatch.written if is_own else WriteBuffer()
        cdef bytes whole = None
        cdef object cb_id = None if self.connection.is_post else self.cb_id
        if self.cb_id is None or self.is_replied:
            return False
        try:
            whole = dispatch.packer.packet_into(value, cb_id, out)
        except Exception:
            if dispatch.can_write(cb_id):
                raise
            out = None
        if self.is_replied:             # by another thread, or by code that the packer called
            return False
        self.is_replied = True
        if is_own:
            return self._send(out, whole)
        dispatch.clock.from_thread(partial(self._send, out, whole))
        return out is not None and not self.connection.is_answered

    cpdef bint _send(self, WriteBuffer out, bytes whole) except -1:
        cdef Connection connection = self.connection
        cdef object cluster = connection.dispatch.cluster
        if cluster is not None and out is not None and cluster.unreturned:
            # What its handler sent to this client may still be on its way through the engine.
            whole = out.take() if whole is None else whole
            if cluster.holds(self.client, self.turn, partial(self._send_on, out, whole)):
                return True
        return self._send_on(out, whole)

    cpdef bint _send_on(self, WriteBuffer out, bytes whole) except -1:
        cdef Connection connection = self.connection
        cdef bint is_sent = out is not None and connection.send_reply(out, whole, self.number)
        if out is None:
            connection.dispatch.lose_reply(connection, self.cb_id)
        if self.is_later:
            connection.dispatch.done(self)
        elif self.is_read:
            connection.dispatch.ended(self)
        return is_sent

    def _release(self):
        """Free the event's room in the inbox: an iterator passes the event on.

        If the client wants a reply, a stop still waits for it, or for `_let_end`.
        """
        self.is_read = True
        self.connection.dispatch.free(self)
        if not self.wants_reply:
            self.connection.dispatch.ended(self)

    def _let_end(self):
        """Stop waiting, in a stop, for the reply to an event that an iterator passed on."""
        self.connection.dispatch.ended(self)

    def __repr__(self):
        return "EventMsg(id=%r, uid=%r)" % (self.id, self.uid)


@cython.final
cdef class Dispatch:
    """Turns the packets of all connections into events, and runs the handlers.

    `routes` and `own_routes` map an event id to its Route: the application's, and those in the
    namespace `chsk`. `unclaimed(msg)` returns whether an iterator will take an event that has no
    handler. `failed(msg, exception)` is called for each handler that raised, and returns the reply
    for the client, None for the usual one. `wire` is the module of the grammar's constants.
    """

    def __cinit__(
        self, clock, Fanout fanout not None, Packer packer not None, *, sender, dict routes,
        dict own_routes, unclaimed, failed, wire, Py_ssize_t max_events, Py_ssize_t max_bytes,
    ):
        self.clock = clock
        self.begin = clock.begin
        self.fanout = fanout
        self.packer = packer
        self.sender = sender
        self.routes = routes
        self.own_routes = own_routes
        self.unclaimed = unclaimed
        self.failed = failed
        self.max_events = max_events
        self.max_bytes = max_bytes
        self.ws_ping = wire.WS_PING
        self.ws_pong = wire.WS_PONG
        self.refused = wire.REFUSED
        self.pong = wire.PONG
        self.error = wire.ERROR
        self.why = wire.WHY
        self.unclaimed_error = [wire.ERROR, wire.UNCLAIMED]
        self.reply_id = wire.REPLY
        self.ack_id = wire.ACK
        self.due, self.queued = deque(), set()
        self.posts, self.strays = set(), set()
        self.written = WriteBuffer()
        self.thread = PyThread_get_thread_ident()

    def is_own_thread(self):
        """Return whether the caller runs on the loop's thread."""
        return PyThread_get_thread_ident() == self.thread

    # -- a packet becomes an event

    cdef EventMsg event(
        self, Connection connection, int length, object event_id, object data, object cb_id,
        EventMsg msg
    ):
        # Return the message that a handler gets, made of `msg` if that is not None; or None if no
        # handler gets one.
        cdef object route
        cdef int64_t number = 0
        cdef bint is_ping = False
        if msg is not None:
            number = msg.number
        elif connection.inbox.numbers is not None:
            number = connection.count_event()
        if length == 0:
            return self._bad_event(connection, event_id, cb_id, number)
        route = self.routes.get(event_id)
        if route is None:
            if event_id.startswith("chsk/"):
                route = self._own_route(connection, length, event_id, data, cb_id, number)
                if route is None:
                    return None
                is_ping = event_id == self.ws_ping and (length == 1 or number != 0)
                number = 0
            elif not event_id.namespace:
                return self._bad_event(connection, [event_id, data][:length], cb_id, number)
        if msg is None:
            msg = EventMsg.__new__(EventMsg)
            msg.connection = connection
        msg.number = number
        msg.id = event_id
        msg.data = data
        msg.cb_id = cb_id
        msg.route = route
        if cb_id is not None:
            if connection.is_post and not connection.is_answered:
                connection.event = msg
            elif connection.is_post:
                msg.is_replied = True       # a ping, which the channel has answered
            else:
                msg.is_replied = is_ping
        return msg

    def _own_route(
        self, Connection connection not None, int length, event_id not None, data, cb_id,
        int64_t number,
    ):
        # Ping and pong, the only events in `chsk` that a client may send; and, with numbers, what
        # stands for an event that it has given up.
        cdef Numbers numbers = None if connection.is_post else connection.inbox.numbers
        route = self.own_routes.get(event_id)
        if event_id == self.refused and connection.inbox.numbers is not None:
            self._refuse(connection, cb_id, number)
            return None
        if event_id != self.ws_ping and event_id != self.ws_pong:
            self.forged += 1
            connection._complain(
                FORGED, "forged_event", "expected no event in the namespace chsk", event_id
            )
            self._refuse(connection, cb_id, number)
            return None
        if numbers is not None:
            if number == numbers.received:
                numbers.received -= 1       # they have no number
            self._compare(connection, numbers, data, number)
        if event_id == self.ws_ping and cb_id is not None:
            numbers = connection.inbox.numbers      # a POST may ask for acknowledgments as well
            if numbers is not None:
                numbers.told, numbers.told_bytes = numbers.received, 0
                numbers.acked = numbers.handled(connection.inbox)
                answer = [self.pong, numbers.acked]
                self._reply(connection, answer, None if connection.is_post else cb_id)
            elif length == 1 and not connection.is_post:
                self._reply(connection, self.pong, cb_id)
        return route

    def _compare(self, Connection connection not None, Numbers numbers not None, data, number):
        # A ping or pong of a client that resumes: `[sent waits]`.
        if not (
            type(data) is list and len(data) == 2 and type(data[0]) is int and type(data[1]) is int
            and 0 <= data[0] < MAX_NUMBER and 0 <= data[1] < MAX_NUMBER
        ):
            return
        if data[0] != numbers.received:
            log_limit = self.fanout.timers.log_limit
            log_limit.warning(log, "numbers_differ uid=%r client=%r: expected %d, got %d",
                              connection.uid, connection.client_id[:8], numbers.received, data[0])
            connection.transport.close(1011, "event numbers differ")
            return
        numbers.forget_replies(data[1])

    cdef int acknowledge(self, Inbox inbox) except -1:
        # Tell a client that resumes which of its events are handled.
        cdef Numbers numbers = inbox.numbers
        numbers.told = numbers.received
        numbers.told_bytes = 0
        if numbers.session is not None and not numbers.session.is_gone:
            self.fanout.send(numbers.session, self.ack(inbox))
        return 0

    def ack(self, Inbox inbox not None):
        """Return the event `[:chsk/ack n]` of a client that resumes."""
        inbox.numbers.acked = inbox.numbers.handled(inbox)
        return Fragment(self.packer.fragment((self.ack_id, inbox.numbers.acked)), None, False)

    def new_ack(self, Inbox inbox not None):
        """Return the packet of `[:chsk/ack n]`; None if the client knows n already."""
        cdef Numbers numbers = inbox.numbers
        if numbers is None or numbers.handled(inbox) <= numbers.acked:
            return None
        return Packet(self.packer.batch([(<Fragment>self.ack(inbox)).data]), self.packer.binary)

    def late_reply(self, int64_t number, bytes packet not None):
        """Return the event `[:chsk/reply [number value]]` of a reply's packet."""
        value, _ = self.packer.unpack(packet)
        return Fragment(self.packer.fragment((self.reply_id, [number, value])), None, False)

    def _bad_event(self, Connection connection not None, value, cb_id, int64_t number):
        self.bad_event += 1
        expected = "expected [id ?data] with a namespaced id"
        connection._complain(BAD_EVENT, "bad_event", expected, value)
        self._refuse(connection, cb_id, number)

    def _refuse(self, Connection connection not None, cb_id, int64_t number, answer=None):
        # Answer that there is no handler, so that the client does not wait in vain.
        if cb_id is not None:
            answer = self.error if answer is None else answer
            self._reply(connection, answer, None if connection.is_post else cb_id, number)

    def _reply(self, Connection connection not None, value, cb_id, int64_t number=0):
        # The channel's own answer.
        try:
            payload = self.packer.packet(value, cb_id)
        except Exception:
            self.lose_reply(connection, cb_id)
            return
        connection.send_reply(self.written, payload, number)

    cdef bint can_write(self, object cb_id) except -1:
        # Return whether a reply can carry cb_id: some values can be read and not written.
        try:
            self.packer.packet(None, cb_id)
        except Exception:
            return False
        return True

    cdef int lose_reply(self, Connection connection, object cb_id) except -1:
        # Count a reply that cannot be sent, since the client's cb_id cannot be written.
        self.fanout.reply_lost += 1
        expected = "expected a callback id that can be written"
        connection._complain(BAD_EVENT, "bad_event", expected, cb_id)
        return 0

    def announce(self, event_id, uid, Connection connection not None, Inbox inbox):
        """Run the handler of an event of our own, `[event_id uid]`, in the order of these calls."""
        cdef EventMsg msg
        cdef Route route = self.own_routes.get(event_id)
        if route is None:
            return
        msg = EventMsg.__new__(EventMsg)
        msg.id = event_id
        msg.data = uid
        msg.connection = connection
        msg.route = route
        self.admit(msg, inbox)

    # -- an event meets its handler

    cdef int enter(self, EventMsg msg, Inbox inbox) except -1:
        inbox.events += 1
        inbox.nbytes += msg.size
        inbox.unfinished += 1
        self.unfinished += 1
        msg.inbox = inbox
        msg.holds_room = msg.is_unfinished = True
        return 0

    cdef int admit(self, EventMsg msg, Inbox inbox) except -1:
        # Run the handler, or queue the event behind a handler that waits.
        self.enter(msg, inbox)
        if inbox.is_running or inbox.queue is not None:
            return self.queue(msg, inbox)
        try:
            self.run(msg)
        finally:                            # also after an exception that no handler may catch
            if inbox.queue is not None and not inbox.is_running:
                self.work_off(inbox)        # arrived within the handler's first step
        return 0

    cdef int queue(self, EventMsg msg, Inbox inbox) except -1:
        if inbox.queue is None:
            inbox.queue = deque()
            self.queued.add(inbox)
        inbox.queue.append(msg)
        return 0

    cdef int put_off(
        self, Connection connection, const uint8_t* data, Py_ssize_t size, bint is_text
    ) except -1:
        # Queue a packet as bytes behind a handler that waits: its value may hold 70 times more.
        cdef EventMsg msg = EventMsg.__new__(EventMsg)
        msg.connection = connection
        msg.packet = PyBytes_FromStringAndSize(<const char*>data, size)
        msg.is_text = is_text
        msg.size = size + AROUND
        msg.number = connection.count_event()
        self.enter(msg, connection.inbox)
        self.queue(msg, connection.inbox)
        return 1

    cdef EventMsg next_event(self, Inbox inbox):
        # Take the next event out of the queue; None: there is none, or decoding it has to wait for
        # room or for the next turn.
        cdef EventMsg msg
        while inbox.queue:
            msg = inbox.queue[0]
            # One value is always decoded if no other is held.
            if (
                msg.packet is not None and inbox.nbytes > self.max_bytes
                and inbox.events > len(inbox.queue)
            ):
                inbox.is_full = True
                return None
            if msg.packet is not None and self.is_spent:
                self.wait_for_turn(inbox)
                return None
            inbox.queue.popleft()
            if msg.packet is None or self.decode(msg):
                return msg
        return None

    cdef bint decode(self, EventMsg msg) except -1:
        # Decode a packet that waited as bytes. False: no handler gets it, and it is finished.
        cdef bytes packet = msg.packet
        cdef PyObject* parts[3]
        cdef int length
        cdef bint is_event = False
        cdef int64_t since = cpu_time()
        msg.packet = None
        try:
            length = unpack_message(
                self.packer, <const uint8_t*>PyBytes_AS_STRING(packet), PyBytes_GET_SIZE(packet),
                msg.is_text, parts
            )
            is_event = self.event(
                msg.connection, length, steal_ref(parts[0]), steal_ref(parts[1]),
                steal_ref(parts[2]), msg
            ) is not None
        except PacketError as error:
            msg.connection.refuse_counted_packet(error)
        finally:
            self.took_since(since)
            if not is_event:
                self.done(msg)
        return is_event

    cdef Py_ssize_t weigh(self, object data, object cb_id) except -1:
        cdef Py_ssize_t held = AROUND
        if data is not None:
            held += weight(data, self.max_bytes)
        if cb_id is not None:
            held += weight(cb_id, self.max_bytes)
        return held

    cdef int hold(self, EventMsg msg) except -1:
        # Count the memory of an event's value from now on: its handler waits.
        cdef Py_ssize_t held
        if msg.holds_room and not msg.is_weighed:
            held = self.weigh(msg.data, msg.cb_id)
            msg.inbox.nbytes += held - msg.size
            msg.size = held
            msg.is_weighed = True
        return 0

    cdef int run(self, EventMsg msg) except -1:
        # Run the handler; if it waits, it goes on in a task, and so do the events behind it.
        cdef object awaitable = self.step(msg)
        if awaitable is not None:
            msg.inbox.is_running = True
            if msg.inbox.numbers is not None:
                msg.inbox.numbers.current = msg.number
            self._begin(msg, awaitable, drain)
        return 0

    cdef int set_apart(self, EventMsg msg) except -1:
        # Note that events behind this one may be handled before it.
        cdef Numbers numbers = msg.inbox.numbers
        if msg.number and numbers is not None:
            if numbers.apart is None:
                numbers.apart = {}
            numbers.apart[msg.number] = None
            msg.is_apart = True
        return 0

    cdef int _begin(self, EventMsg msg, object awaitable, object go_on) except -1:
        # Most handlers that are coroutines never wait, and need no task.
        cdef object result
        cdef bint is_over = True
        try:
            try:
                result = self.begin(awaitable, go_on, msg)
            except BaseException as error:
                self.fail(msg, error)
                if not isinstance(error, (Exception, CancelledError)):
                    raise
            else:
                if result is NOT_BEGUN:
                    self.clock.start(go_on(msg, awaitable))
                is_over = result is not NOT_BEGUN and result is not WAITS
                if is_over:
                    self.finish(msg, result)
                else:
                    self.hold(msg)
                    if go_on is alone:
                        self.set_apart(msg)
        finally:
            if is_over and go_on is drain:
                msg.inbox.is_running = False
        return 0

    cdef int work_off(self, Inbox inbox) except -1:
        # Run the events behind a handler that has finished.
        cdef EventMsg msg
        try:
            while not inbox.is_running:
                msg = self.next_event(inbox)
                if msg is None:
                    break
                self.run(msg)
        finally:
            if not inbox.queue:
                inbox.queue = None      # an idle session owns no queue
                self.queued.discard(inbox)
            elif not (inbox.is_running or inbox.is_full or inbox.is_due):
                inbox.is_full = True    # an exception that no handler may catch passed here
                self.resume_soon(inbox)
        return 0

    cdef int resume_soon(self, Inbox inbox) except -1:
        if not inbox.is_resuming:
            inbox.is_resuming = True
            self.clock.soon(partial(self.resume, inbox))
        return 0

    def resume(self, Inbox inbox not None):
        """Handle events that had no room: first those in the inbox, then those outside."""
        try:
            if inbox.is_full:
                inbox.is_full = False
                if not inbox.is_running:
                    self.work_off(inbox)
        finally:
            inbox.resume(self)

    cdef int took_since(self, int64_t since) except -1:
        # Count the time that decoding a packet took: its size does not show its cost.
        self.spent += cpu_time() - since
        if self.spent > MAX_SPENT and not self.is_spent:
            self.is_spent = True
            self.clock.soon(self.go_on)
        return 0

    cdef int wait_for_turn(self, Inbox inbox) except -1:
        # Queue an inbox for one of the next turns, behind those that wait already.
        if not inbox.is_due:
            inbox.is_due = True
            # The code that it calls sees the context variables of its own connection.
            self.due.append((inbox, copy_context()))
        return 0

    def go_on(self):
        """Begin a turn: handle the queued inboxes, as far as the turn allows."""
        cdef Inbox inbox
        self.is_spent = False
        self.spent = 0
        while self.due and not self.is_spent:
            inbox, context = self.due.popleft()
            inbox.is_due = False
            inbox.is_full = True        # so that its queue goes on, too
            try:
                context.run(self.resume, inbox)
            except BaseException:
                if self.due and not self.is_spent:
                    self.is_spent = True
                    self.clock.soon(self.go_on)
                raise

    cdef object step(self, EventMsg msg):
        # Call the handler and finish the event; or return the awaitable that the handler waits for,
        # if the next events must wait for it, too.
        cdef Route route = msg.route
        if self.cluster is not None:
            msg.turn = self.cluster.turn
        if route is None:
            if self.unclaimed(msg):
                self.hold(msg)      # until the iterator releases it
                self.set_apart(msg)
            else:
                self.leave_unclaimed(msg)
            return None
        try:
            result = route.handler(msg)
        except BaseException as error:
            self.fail(msg, error)
            if not isinstance(error, (Exception, CancelledError)):
                raise
            return None
        if result is None or not is_awaitable(result):
            self.finish(msg, result)
            return None
        if route.is_parallel:
            self._begin(msg, result, alone)
            return None
        return result

    def leave_unclaimed(self, EventMsg msg not None):
        """Count an event that no handler takes, and refuse it if the client wants a reply.

        The answer is `[:chsk/error "unclaimed"]` if the client can read that.
        """
        cdef Connection connection = msg.connection
        self.unclaimed_count += 1
        if msg.wants_reply:
            msg.is_replied = True
            reads_why = connection.request.params.get(self.why) == "1"
            error = self.unclaimed_error if reads_why else None
            self._refuse(connection, msg.cb_id, msg.number, error)
        self.done(msg)

    cdef int finish(self, EventMsg msg, object result) except -1:
        if result is LATER:
            msg.is_later = True
            # A POST holds its room until it is answered; a socket's event does not.
            if not msg.connection.is_post or not msg.wants_reply:
                return self.done(msg)
            self.hold(msg)
            return self.ended(msg)
        if msg.cb_id is not None and not msg.is_replied:
            try:
                msg.reply(result)
            except Exception as error:
                return self.fail(msg, error)
        return self.done(msg)

    cdef int fail(self, EventMsg msg, object error) except -1:
        try:
            answer = self.failed(msg, error)
            if msg.wants_reply:
                msg.is_replied = True
                self._refuse(msg.connection, msg.cb_id, msg.number, answer)
        finally:
            self.done(msg)
        return 0

    cdef int done(self, EventMsg msg) except -1:
        # Free the room of an event that is finished.
        self.free(msg)
        return self.ended(msg)

    cdef inline int free(self, EventMsg msg) except -1:
        cdef Inbox inbox = msg.inbox
        if not msg.holds_room:
            return 0
        msg.holds_room = False
        inbox.events -= 1
        inbox.nbytes -= msg.size
        if inbox.stalled is not None or inbox.is_full:
            self.resume_soon(inbox)
        return 0

    # -- the stop

    cdef inline int ended(self, EventMsg msg) except -1:
        # Note that an event is finished; a reply after LATER is up to the application.
        if not msg.is_unfinished:
            return 0
        msg.is_unfinished = False
        if msg.number:
            self.finished(msg)
        msg.inbox.unfinished -= 1
        self.unfinished -= 1
        if msg.number and msg.inbox.unfinished == 0 and msg.inbox.numbers is not None:
            # Its client may have sent as much as it may, and wait for this.
            if msg.inbox.numbers.acked < msg.inbox.numbers.told:
                self.acknowledge(msg.inbox)
        if self.settling is not None or msg.inbox.settling is not None:
            self.settled(msg.inbox)
        return 0

    cdef inline int finished(self, EventMsg msg) except -1:
        # Note that a numbered event is handled.
        cdef Numbers numbers = msg.inbox.numbers
        if numbers is None:
            return 0
        if msg.is_apart:
            msg.is_apart = False
            if numbers.apart is not None:
                numbers.apart.pop(msg.number, None)
        if numbers.waiters and not msg.is_later:
            numbers.answer_waiter(msg.number, None)
        return 0

    cdef int settled(self, Inbox inbox) except -1:
        # If the last event has ended, schedule the calls that wait for that.
        cdef list calls = []
        if inbox.unfinished == 0 and inbox.settling is not None:
            calls, inbox.settling = inbox.settling, None
        if self.unfinished == 0 and self.settling is not None:
            calls, self.settling = calls + self.settling, None
        for call in calls:
            self.clock.soon(call)
        return 0

    def settle(self, Inbox inbox, call):
        """Call `call` once when all events of the inbox are finished; of None, of every inbox.

        Returns False, and does not call, if they are finished already. Events that arrive
        meanwhile delay the call as well.
        """
        if (self.unfinished if inbox is None else inbox.unfinished) == 0:
            return False
        if inbox is not None:
            inbox.settling = inbox.settling or []
            inbox.settling.append(call)
        else:
            self.settling = self.settling or []
            self.settling.append(call)
        return True

    def stop(self):
        """Take no more events, and drop those that wait behind handlers, also of clients that left.

        Returns the number of events that are dropped, and of those whose handlers still run.
        """
        cdef Inbox inbox
        cdef Py_ssize_t dropped = 0
        self.is_stopping = self.is_stopped = True
        for inbox in list(self.queued):
            dropped += self.give_back(inbox)
        self.unhandled += dropped
        return dropped, self.unfinished

    def give_back(self, Inbox inbox not None):
        """Drop the events of an inbox that no handler has; return their number.

        A client that resumes sends its own again.
        """
        cdef EventMsg msg
        cdef Py_ssize_t dropped = 0
        while inbox.queue:
            msg = inbox.queue.pop()     # the newest first
            dropped += 1
            if msg.number and inbox.numbers is not None:
                inbox.numbers.received = msg.number - 1
            msg.number = 0
            if msg.connection.event is msg:
                msg.connection.event = None     # so that its POST may be sent again
            elif msg.wants_reply:
                self.fanout.reply_lost += 1
            self.done(msg)
        return dropped


async def alone(EventMsg msg, awaitable):
    """Await one handler and finish its event."""
    cdef Dispatch dispatch = msg.connection.dispatch
    try:
        result = await awaitable
    except BaseException as error:
        dispatch.fail(msg, error)
        if not isinstance(error, Exception):
            raise
    else:
        dispatch.finish(msg, result)


async def drain(EventMsg msg, awaitable):
    """Await a handler, then handle the events behind it, one at a time and in order."""
    cdef Dispatch dispatch = msg.connection.dispatch
    cdef Inbox inbox = msg.inbox
    try:
        while True:
            await alone(msg, awaitable)
            awaitable = None
            while awaitable is None:
                msg = dispatch.next_event(inbox)
                if msg is None:
                    return
                awaitable = dispatch.step(msg)
            if inbox.numbers is not None:
                inbox.numbers.current = msg.number
            dispatch.hold(msg)
    finally:
        inbox.is_running = False
        dispatch.work_off(inbox)    # events that a canceled handler, or a lack of room, has left
