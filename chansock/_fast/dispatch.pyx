# cython: language_level=3
"""From a packet to an event to a handler to a reply, once per event.

What is checked once per received event (envelope, event shape, namespaced id, the
`chsk` namespace) is checked here. The rules for what is sent live in `_core/event`,
the grammar's constants in `_core/wire`, which hands them down. No user, no hook, no
presence, no socket: a Transport is told to read or not, and an Outbox gets the replies.
"""

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from chansock._fast.buffer cimport WriteBuffer
from chansock._fast.edn_source cimport owned
from chansock._fast.fanout cimport Fanout, Link, Outbox, Transport
from chansock._fast.packet cimport Packet, Packer, unpack_message

import logging
from asyncio import CancelledError
from collections import deque
from functools import partial
from types import GenericAlias

from chansock._fast import tasks
from chansock.errors import PacketError
from chansock.target import ClientTarget

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

log = logging.getLogger("chansock.dispatch")
cdef object NOT_BEGUN = tasks.NOT_BEGUN, WAITS = tasks.WAITS


cpdef bint is_awaitable(object value) noexcept:
    """Tell whether value can be awaited."""
    return chansock_is_awaitable(value)


# What is logged once for each connection.
cdef enum:
    BAD_PACKET = 1
    BAD_EVENT = 2
    FORGED = 4


@cython.final
cdef class Later:
    """The type of LATER."""

    def __repr__(self):
        return "chansock.LATER"


# A handler returns it to answer later, by msg.reply.
LATER = Later()


@cython.final
cdef class Route:
    """One handler: `handler(msg)`, and whether it may overlap with what follows."""

    def __cinit__(self, handler, bint is_parallel=False):
        self.handler = handler
        self.is_parallel = is_parallel


@cython.final
cdef class Inbox:
    """What a session sent and no handler has finished, in events and bytes as received."""

    def when_room(self, call):
        """Call once when something was finished, in the order asked."""
        if self.stalled is None:
            self.stalled = []
        self.stalled.append(call)

    @property
    def stalled_count(self):
        """How many wait for room."""
        return 0 if self.stalled is None else len(self.stalled)

    def resume(self):
        """Let those try again that found no room; the dispatch calls it."""
        cdef list stalled = self.stalled or []
        cdef Py_ssize_t done = 0
        self.stalled = None
        self.is_resuming = False
        try:
            for call in stalled:
                done += 1
                call()
        finally:
            if done < len(stalled):     # one raised: those behind it are not forgotten
                self.stalled = stalled[done:] + (self.stalled or [])


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
        # Whoever waits for room already comes first, even if some was made meanwhile.
        if inbox.stalled is not None or inbox.events and (
            inbox.events >= dispatch.max_events or inbox.nbytes + size > dispatch.max_bytes
        ):
            if not self.is_post:
                inbox.when_room(self.read_on)
            return 0
        try:
            length = unpack_message(dispatch.packer, data, size, is_text, parts)
        except PacketError as error:
            dispatch.bad_packet += 1
            self._complain(BAD_PACKET, "bad_packet", "expected a packet", error)
            if self.is_post:
                raise
            return 1
        msg = dispatch.event(self, length, owned(parts[0]), owned(parts[1]), owned(parts[2]))
        if msg is not None:
            msg.size = size
            dispatch.admit(msg, inbox)
        return 1

    def read_on(self):
        """Let the edge give again what had no room; its silence till now was our doing."""
        self.transport.heard = True
        self.transport.set_reading(True)

    def receive(self, view, bint is_text=True):
        """Take one message from an edge in Python; False: no room, give it again later.

        Raises PacketError for a POST that is no packet; a socket's is dropped.
        """
        cdef const uint8_t[::1] memory = view
        cdef Py_ssize_t size = memory.shape[0]
        return bool(self.take(&memory[0] if size else NULL, size, is_text))

    cdef int cork(self) except -1:
        if self.outbox is not None:
            self.outbox.flush()
        return 0

    def corked(self):
        """Send all that a read made, in one send; for edges in Python."""
        self.cork()

    cdef bint send_reply(self, WriteBuffer out, bytes whole) except -1:
        cdef Outbox box = self.outbox
        if self.is_post:
            whole = out.take() if whole is None else whole
            if self.answer(Packet(whole, self.dispatch.packer.binary)):
                return True
            self.dispatch.fanout.reply_lost += 1
            return False
        if box is None:
            # Sente's callback ids outlive the socket: the session's present one will do.
            other = self.session.ws
            if other is not None:
                box = (<Connection?>other).outbox
        if box is None:
            self.dispatch.fanout.reply_lost += 1
            return False
        box.put_reply(out, whole)
        return True

    def put(self, Packet packet not None):
        """Let a packet of the channel's own wait with what else goes to this connection."""
        if self.outbox is not None:
            self.outbox.put_packet(packet)

    def answer(self, Packet packet not None):
        """Write the one response of a POST; False if it is gone or has its response."""
        cdef bint is_written = not self.is_answered and self.transport.write([packet])
        self.forget()
        return is_written

    def forget(self):
        """Await no reply to a POST any more: it has its response, or its peer has gone."""
        cdef EventMsg asked = self.asked
        self.is_answered = True
        self.dispatch.posts.discard(self)
        self.dispatch.strays.discard(self)
        self.dispatch.fanout.sweep.cancel(self.timer)
        self.asked = self.timer = None
        if asked is not None and asked.is_later:
            self.dispatch.done(asked)

    @property
    def wants_reply(self):
        """Whether a POST still awaits its handler's reply."""
        return self.asked is not None

    def _complain(self, int what, str log_id not None, str expected not None, got):
        # Once for each connection and kind of fault: a peer must not fill the log.
        if not self.has_complained & what:
            self.has_complained |= what
            try:
                got = "%.80r" % (got,)
            except RecursionError:      # as deep as the reader lets it be
                got = type(got).__name__
            log.warning("%s uid=%r client=%r: %s, got %s",
                        log_id, self.uid, self.client_id[:8], expected, got)


@cython.freelist(64)
cdef class EventMsg:
    """One event of a client, as a handler gets it.

    `id` is a Keyword (a str), `data` what came with it or None, for EventMsg[T] made a T.
    `uid` is None for an anonymous client; `client` is a target for `send` and `disconnect`:
    this one session.
    """

    @classmethod
    def __class_getitem__(cls, item):
        return GenericAlias(cls, item)

    @property
    def uid(self):
        """User id, or None."""
        return self.connection.uid

    @property
    def client_id(self):
        """One tab or process; the bearer secret of an anonymous client."""
        return self.connection.client_id

    @property
    def client(self):
        """Target that means this one session."""
        return ClientTarget(self.connection.uid, self.connection.client_id)

    @property
    def request(self):
        """HTTP request of the handshake; over Ajax the POST's own."""
        return self.connection.request

    @property
    def chsk(self):
        """ChannelSocket that received it."""
        return self.connection.dispatch.sender

    @property
    def wants_reply(self):
        """Whether the client asked for a reply and has none yet."""
        return self.cb_id is not None and not self.is_replied

    cpdef reply(self, value=None):
        """Answer the event: `[value cb-id]`, over Ajax the POST's response `[value nil]`.

        Returns False if none is wanted (any more) or nobody is there to get it. May be
        called from any thread. Raises EdnEncodeError if value cannot be written.
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
        if self.is_replied:             # meanwhile, by what the packer called or another thread
            return False
        self.is_replied = True
        if is_own:
            return self._send(out, whole)
        dispatch.clock.from_thread(partial(self._send, out, whole))
        return out is not None and not self.connection.is_answered

    cpdef bint _send(self, WriteBuffer out, bytes whole) except -1:
        cdef Connection connection = self.connection
        cdef bint is_sent = out is not None and connection.send_reply(out, whole)
        if out is None:
            connection.dispatch.lose_reply(connection, self.cb_id)
        if self.is_later:
            connection.dispatch.done(self)
        return is_sent

    def release(self):
        """Take no more room in the inbox; for whoever took an event that no handler claimed."""
        self.connection.dispatch.done(self)

    def __repr__(self):
        return "EventMsg(id=%r, uid=%r)" % (self.id, self.uid)


@cython.final
cdef class Dispatch:
    """What turns the packets of all connections into events, and runs the handlers.

    `routes` and `own_routes` map an event id to its Route: the application's, and
    those in the namespace `chsk`. `unclaimed(msg)` tells whether somebody will take
    an event that has no handler; `failed(msg, exception)` is told of each handler that
    raised, and gives the answer to who asked, None for the usual one. `wire` is the module
    of the grammar's constants.
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
        self.pong = wire.PONG
        self.error = wire.ERROR
        self.posts, self.strays = set(), set()
        self.written = WriteBuffer()
        self.thread = PyThread_get_thread_ident()

    def is_own_thread(self):
        """Whether the caller runs on the loop's thread."""
        return PyThread_get_thread_ident() == self.thread

    # -- a packet becomes an event

    cdef EventMsg event(
        self, Connection connection, int length, object event_id, object data, object cb_id
    ):
        """Make the message that a handler gets; None if there is nothing to hand on."""
        cdef EventMsg msg
        cdef object route
        if length == 0:
            return self._bad_event(connection, event_id, cb_id)
        route = self.routes.get(event_id)
        if route is None:
            if event_id.startswith("chsk/"):
                route = self._own_route(connection, length, event_id, cb_id)
                if route is None:
                    return None
            elif not event_id.namespace:
                return self._bad_event(connection, [event_id, data][:length], cb_id)
        msg = EventMsg.__new__(EventMsg)
        msg.id = event_id
        msg.data = data
        msg.connection = connection
        msg.cb_id = cb_id
        msg.route = route
        if cb_id is not None:
            if connection.is_post:
                connection.asked = msg
            else:
                msg.is_replied = length == 1 and event_id == self.ws_ping
        return msg

    def _own_route(self, Connection connection not None, int length, event_id not None, cb_id):
        # Ping and pong, the only events in `chsk` that a client may send.
        if event_id == self.ws_ping:
            if length == 1 and cb_id is not None and not connection.is_post:
                self._reply(connection, self.pong, cb_id)
        elif event_id != self.ws_pong:
            self.forged += 1
            connection._complain(
                FORGED, "forged_event", "expected no event in the namespace chsk", event_id
            )
            self._refuse(connection, cb_id)
        route = self.own_routes.get(event_id)
        return route if event_id in (self.ws_ping, self.ws_pong) else None

    def _bad_event(self, Connection connection not None, value, cb_id):
        self.bad_event += 1
        connection._complain(
            BAD_EVENT, "bad_event", "expected [id ?data] with a namespaced id", value
        )
        self._refuse(connection, cb_id)

    def _refuse(self, Connection connection not None, cb_id, answer=None):
        # Whoever asked is told that no handler has an answer, instead of waiting in vain.
        if cb_id is not None:
            answer = self.error if answer is None else answer
            self._reply(connection, answer, None if connection.is_post else cb_id)

    def _reply(self, Connection connection not None, value, cb_id):
        # The channel's own answer.
        try:
            payload = self.packer.packet(value, cb_id)
        except Exception:
            self.lose_reply(connection, cb_id)
            return
        connection.send_reply(self.written, payload)

    cdef bint can_write(self, object cb_id) except -1:
        """Whether a reply can carry cb_id: some can be read and not written."""
        try:
            self.packer.packet(None, cb_id)
        except Exception:
            return False
        return True

    cdef int lose_reply(self, Connection connection, object cb_id) except -1:
        """Count a reply that cannot be sent, since the client gave no cb_id to be written."""
        self.fanout.reply_lost += 1
        connection._complain(
            BAD_EVENT, "bad_event", "expected a callback id that can be written", cb_id
        )
        return 0

    def announce(self, event_id, uid, Connection connection not None, Inbox inbox):
        """Run the handler of an event of our own, `[event_id uid]`, in the order told."""
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

    cdef int admit(self, EventMsg msg, Inbox inbox) except -1:
        """Run the handler, or let the event wait for one that waits."""
        inbox.events += 1
        inbox.nbytes += msg.size
        msg.inbox = inbox
        msg.holds_room = True
        if not inbox.is_running:
            return self.run(msg)
        inbox.queue = inbox.queue or deque()
        inbox.queue.append(msg)
        return 0

    cdef int run(self, EventMsg msg) except -1:
        """Run the handler; one that waits goes on in a task, and so does what follows it."""
        cdef object awaitable = self.step(msg)
        if awaitable is not None:
            msg.inbox.is_running = True
            self._begin(msg, awaitable, drain)
        return 0

    cdef int _begin(self, EventMsg msg, object awaitable, object go_on) except -1:
        # Of handlers that are coroutines most never wait, and those need no task.
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
        finally:
            if is_over and go_on is drain:
                self.work_off(msg.inbox)    # also behind what no handler may catch
        return 0

    cdef int work_off(self, Inbox inbox) except -1:
        """Run what came behind a handler that is done."""
        inbox.is_running = False
        while inbox.queue and not inbox.is_running and not self.is_stopping:
            self.run(inbox.queue.popleft())
        if not inbox.queue:
            inbox.queue = None      # an idle session owns no queue
        return 0

    cdef object step(self, EventMsg msg):
        """Call the handler and finish the event; what it waits for, if what follows must too."""
        cdef Route route = msg.route
        if route is None:
            if not self.unclaimed(msg):
                self.leave_unclaimed(msg)   # else whoever took it releases it
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
        """Count an event that nobody claims, and tell the client if it asked."""
        self.unclaimed_count += 1
        if msg.wants_reply:
            msg.is_replied = True
            self._refuse(msg.connection, msg.cb_id)
        self.done(msg)

    cdef int finish(self, EventMsg msg, object result) except -1:
        if result is LATER:
            msg.is_later = True
            # A POST holds its room until it is answered; a socket's event does not.
            if not msg.connection.is_post or not msg.wants_reply:
                self.done(msg)
            return 0
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
                self._refuse(msg.connection, msg.cb_id, answer)
        finally:
            self.done(msg)
        return 0

    cdef int done(self, EventMsg msg) except -1:
        """Give back the room that an event took in its inbox."""
        cdef Inbox inbox = msg.inbox
        if not msg.holds_room:
            return 0
        msg.holds_room = False
        inbox.events -= 1
        inbox.nbytes -= msg.size
        if inbox.stalled is not None and not inbox.is_resuming:
            inbox.is_resuming = True
            self.clock.soon(inbox.resume)
        return 0


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
    """Await a handler, then work off what came behind it, one at a time and in order."""
    cdef Dispatch dispatch = msg.connection.dispatch
    cdef Inbox inbox = msg.inbox
    try:
        while True:
            await alone(msg, awaitable)
            awaitable = None
            while inbox.queue and awaitable is None:
                msg = inbox.queue.popleft()
                awaitable = dispatch.step(msg)
            if awaitable is None:
                return
    finally:
        dispatch.work_off(inbox)    # only a handler that was cancelled leaves some
