# cython: language_level=3
"""The server's side of a TCP connection: HTTP first, WebSocket frames after an upgrade.

Protocol passes requests to the endpoint and messages to the dispatch, and sends their answers. I/O
lives in `io/socket`, request parsing in `http/request_reader`, framing in `ws/frames`; the caller
passes `http1`, which words answers. No user, no event, no packer here. server_protocol.pxd draws
the states. The file is past 600 lines because HTTP and WebSocket share one state, one flow, and one
end, and all connections of a Service share the turns of its loop. Its part `echo`: a WebSocket that
returns each message.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from chansock._fast.io.transport cimport Incoming
from chansock._fast.http cimport request_reader
from chansock._fast.http.request cimport Request, asks_for, client_of, field_value, request_of
from chansock._fast.ws cimport frames
from chansock._fast.events.dispatch cimport is_awaitable
from chansock._fast.events.packet cimport Packet

import logging
from collections import deque
from contextvars import copy_context
from re import compile as pattern

from chansock.errors import FrameError
from chansock.request import Response

cdef extern from "io/epoll.h":
    int64_t tick "chansock_tick" ()         # milliseconds, in steps of 1 to 10

log = logging.getLogger("chansock.server_protocol")

cdef str BUSY = "expected less under way: see max_total_incoming_bytes"
cdef str FULL = "expected fewer connections: see max_connections"

# Matches a path that has one spelling only, except for needless escapes.
cdef object IS_PLAIN = pattern(r"[/A-Za-z0-9._~-]+").fullmatch

cdef enum:
    MAX_WAITING = 65536         # bytes of pipelined requests behind one that is held
    # Work is counted in bytes, of some 4 ns each: a turn is a few milliseconds.
    MAX_BURST = 1 << 20         # of all connections together in a turn
    TLS_BURST = 1 << 22         # of one WebSocket over TLS, in one read
    LEAST_BURST = 16384         # of one of them, however many share the turn
    LEAST_WORK = 512            # that a frame costs: 1 to 4 us with a plain handler
    REQUEST_WORK = 8192         # that a request costs: 20 to 40 us with plain hooks
    BYTE_WORK = 2               # that a byte of a message costs: from 1 to 30 ns to decode
    TICK_WORK = 250_000         # that a millisecond costs, where bytes say too little
    MAX_UNTIMED = 128           # bytes of a message that costs what its bytes do
    SLACK = 64                  # sockets past max_connections that still get an answer
    MAX_PONGS = 1000            # gathered for one send; a read may hold 40 times as many pings
    FORM_SLACK = 4096           # of a percent-encoded body: the fields beside the packet

# Seconds that a stop waits for a peer to read the last answer and close. A live peer needs one
# round trip; it holds nothing of ours any more.
cdef double STOP_LINGER = 0.5


@cython.final
cdef class Service:
    """The list of a listener's connections, and the things that all of them share.

    `endpoint` is the core's Endpoint, and `timers` runs the time-outs. `fallback(request)` answers
    paths other than `path` (None: 404); if `path` is None, there are no others. `http1` is the
    module that words answers. `forwarded(request, protocol)` runs first and reads the headers of
    trusted proxies. `extensions` negotiates the extensions of a WebSocket (None: there are none).
    `answered(request, status)` is called after each answer to a request for `path`. With
    `is_single`, each connection ends with its first answer, since another server handles the next
    requests. `gone(protocol)` is called for each connection that has ended. All services of one
    channel share `incoming`, which limits the bytes that are held and not handled yet (None: this
    service has its own).
    """

    def __cinit__(
        self, endpoint, clock, TimerQueue timers not None, config, *, str path, fallback,
        http1, forwarded=None, extensions=None, answered=None, bint is_single=False,
        gone=None, Incoming incoming=None
    ):
        self.endpoint = endpoint
        self.clock = clock
        self.timers = timers
        self.config = config
        self.path = path
        self.plain_path = None
        if path is not None and IS_PLAIN(path):
            self.plain_path = path.encode()
        self.fallback = fallback
        self.http1 = http1
        self.forwarded = forwarded
        self.extensions = extensions
        self.answered = answered
        self.is_single = is_single
        self.gone = gone
        self.protocols = []
        self.expire = Protocol.expired
        self.cut = Protocol.cut
        self.incoming = Incoming(config.max_total_incoming_bytes) if incoming is None else incoming
        self.max_sockets = config.max_connections or 0
        self.due = deque()
        # An incomplete head is copied to the front of the buffer: there must be room behind it.
        self.memory = Memory(4 * <Py_ssize_t>config.max_head_bytes)
        # Percent-encoding makes a packet up to three times as long.
        self.max_body = 3 * <Py_ssize_t>config.max_message_bytes + FORM_SLACK
        self.handshake_timeout = config.handshake_timeout

    def __len__(self):
        """Return the number of connections."""
        return len(self.protocols)

    cdef RequestReader reader(self):
        # Return a reader for one request: the spare one, since nearly all requests arrive in one
        # read.
        cdef RequestReader reader = self.spare
        self.spare = None
        if reader is None:
            reader = RequestReader(
                self.http1.judge_head, self.config.max_head_bytes,
                self.config.max_header_fields, self.max_body,
            )
        return reader

    cdef int add(self, Protocol protocol) except -1:
        protocol.index = len(self.protocols)
        self.protocols.append(protocol)
        self.incoming.sockets += 1
        return 0

    cdef int discard(self, Protocol protocol) except -1:
        # Remove a connection in O(1): the last one moves to its place.
        cdef Protocol last = self.protocols.pop()
        if last is not protocol:
            self.protocols[protocol.index] = last
            last.index = protocol.index
        protocol.index = -1
        self.incoming.sockets -= 1
        if self.gone is not None:
            self.gone(protocol)
        if not self.protocols and self.when_empty is not None:
            when_empty, self.when_empty = self.when_empty, None
            when_empty()
        return 0

    cdef bint is_full(self) noexcept:
        return self.max_sockets and self.incoming.sockets > self.max_sockets

    cdef bint is_crowded(self) noexcept:
        # The last quarter is for connections that send a request.
        return self.max_sockets and 4 * self.incoming.sockets > 3 * self.max_sockets

    # -- turns

    cdef int enter(self, Protocol protocol) except -1:
        # Queue a connection for the next turn, behind those that wait already. The code that it
        # calls sees the context variables of its own connection.
        self.due.append((protocol, copy_context()))
        return self._begin_turn()

    cdef int _begin_turn(self) except -1:
        self.memory.share(<Py_ssize_t>len(self.due) + self.spent // (MAX_BURST // 4))
        if not self.is_due:
            self.is_due = True
            self.clock.soon(self.go_on)
        return 0

    cdef Py_ssize_t burst(self, Py_ssize_t size) except -1:
        # Return the work that a connection may do now; it has `size` bytes. Each connection may do
        # a little at once. If the turn is used up, a connection with much to do waits. After a
        # message that took more than two turns, each connection with more than one short message
        # waits.
        cdef Py_ssize_t left = MAX_BURST - self.spent
        if left <= 0 and size > (LEAST_BURST if left > -MAX_BURST else MAX_UNTIMED):
            return 0
        return max(<Py_ssize_t>LEAST_BURST, left // (1 + <Py_ssize_t>len(self.due)))

    cdef int spend(self, Py_ssize_t work) except -1:
        # Count work that was done. Much work schedules the next turn, which counts from zero.
        self.spent += work
        if self.spent > MAX_BURST // 8:
            self._begin_turn()
        return 0

    def go_on(self):
        """Begin a turn: connections that have more to handle use one half of it."""
        cdef Protocol protocol
        cdef Py_ssize_t count = len(self.due)
        self.is_due = False
        self.spent = 0
        while count and self.spent < MAX_BURST // 2:
            count -= 1
            protocol, context = self.due.popleft()
            self.spent += LEAST_WORK
            context.run(Protocol.go_on, protocol)
        if self.due:
            self._begin_turn()
        else:
            self.memory.share(0)

    # -- the end

    def stop(self, when_empty):
        """Close sockets with 1012, answer waiting requests with 503, and call `when_empty` once the
        last connection has ended."""
        cdef Protocol protocol
        self.is_stopping = True
        self.when_empty = when_empty
        for protocol in list(self.protocols):
            if protocol.state != HELD or protocol.answer is not None:
                protocol.shutdown()
        if not self.protocols:
            self.when_empty = None
            when_empty()

    def abort(self):
        """End every connection at once."""
        cdef Protocol protocol
        for protocol in list(self.protocols):
            protocol._hang_up(True)


cdef class Answer(Transport):
    """The answer to one request, as a transport: of a parked poll, or of a POST.

    The first call of `write` (of one packet), `refuse`, or `close` answers the request; then the
    connection handles its next one. Later calls do nothing, nor do calls on a connection that has
    ended.
    """

    def __cinit__(self, Protocol protocol not None):
        self.protocol = protocol
        self.heard = True

    cpdef bint write(self, list packets):
        cdef Packet packet
        if self.protocol is None:
            return False
        if len(packets) != 1:
            raise ValueError(f"packets: expected 1 for a response, got {len(packets)}")
        packet = packets[0]
        return self.protocol._answer(self.protocol.service.http1.answer_of(packet))

    cpdef refuse(self, response):
        if self.protocol is not None:
            self.protocol._answer(response)

    cpdef close(self, int code=1000, str reason=""):
        cdef Protocol protocol = self.protocol
        cdef Link link
        if protocol is None:
            return
        self.code = code
        link = protocol.link
        protocol._answer(protocol.service.http1.refuse(503, reason or f"closed with {code}"))
        if link is not None:
            protocol.service.endpoint.closed(link, code)


cdef class Protocol(Socket):
    """One connection. An edge makes an asyncio protocol of it by a subclass: asyncio needs a
    subclass of BufferedProtocol; uvloop needs get_buffer on a class that is not an
    asyncio.Protocol."""

    data_received = None        # uvloop looks for it first: the AttributeError would cost 1 us

    def __cinit__(self, Service service not None):
        self.streams = self.receives = True
        self.service = service
        self.memory = service.memory
        self.index = -1
        self.state = READING

    # -- called by the loop

    def connection_made(self, transport):
        """Start to wait for a head."""
        cdef Service service = self.service
        self.meet(transport)
        service.add(self)
        if service.is_stopping:
            self._hang_up(True)         # its TLS handshake was not complete
            return
        if service.is_full() and not service.is_single:
            self.is_surplus = True
            if service.incoming.sockets > service.max_sockets + SLACK:
                service.endpoint.refuse("full", 503, FULL)
                self._hang_up(True)
                return
        self._arm(service.handshake_timeout)

    def eof_received(self):
        """Return False, so that the transport closes: a peer that stops sending has left."""
        return False

    def connection_lost(self, exc):
        """Drop everything and inform the endpoint; the fd may belong to another from now on."""
        cdef Answer answer = self.answer
        self.fd = -1
        self.state = GONE
        self.is_awaiting = False        # the result of a hook or of the fallback comes too late
        self.asyncio_transport = self.reader = self.pending = self.message = self.answer = None
        self.request = None
        if answer is not None:
            answer.protocol = None
        self.drop_store()
        self.service.incoming.end(self.share)
        self.share = None
        self._disarm()
        self.service.discard(self)
        try:
            self._end_link(self.close_code or 1006)
        except Exception:
            self.service.timers.log_limit.exception(log, "closed_error")

    def resume_writing(self):
        """Note that the transport holds no bytes any more, and go on."""
        self.has_backlog = False
        try:
            if self.state == CLOSING:
                self._await_close()
            if self.state == FRAMES:
                self._flush()
                if self.link is not None:
                    self.service.endpoint.drained(self.link)
            self._go_on()
        except Exception:
            self._failed()

    # -- flow

    cdef int consume(self, uint8_t* data, Py_ssize_t size) except -1:
        # Handle data as far as possible. No exception may leave: the loop would hang up.
        self.work = 0
        try:
            self._consume(data, size)
            # The loop reads a socket up to 32 times, as long as it fills the buffer. uvloop's TLS
            # does not, and loses the bytes that it has decrypted if the peer ends meanwhile.
            if self.burst > MAX_BURST and not self.is_tls:
                self.burst = 0
                self.pause()
                self._go_on()
        except Exception:
            self._failed()
        finally:
            self.memory.owner = NULL     # borrowed: another object may get this address
        return 0

    cdef int _consume(self, uint8_t* data, Py_ssize_t size) except -1:
        # Handle what can be handled, keep the rest, and send all replies in one send.
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t whole = 0
        cdef Py_ssize_t used
        self.is_running = True
        if self.is_tls and self.state == FRAMES:
            # uvloop's TLS loses the bytes that it has decrypted if the peer ends while reading is
            # paused. So only a read of thousands of frames is interrupted.
            self.most = TLS_BURST
        else:
            self.most = self.service.burst(size)
        try:
            while at < size and not self.is_stalled and self.work < self.most:
                if self.state == FRAMES or self.state == CLOSING:
                    used = self._read_frames(data + at, size - at, &whole)
                elif self.state == HELD or (self.state <= READING and self.has_backlog):
                    break               # one request at a time; its answer comes first
                elif self.state <= READING:
                    used = self._read_http(data + at, size - at)
                else:
                    used = size - at    # the endpoint is gone
                at += used
                if used == 0:
                    break
        finally:
            self.is_running = False
            self.service.spend(self.work)
        if at < size and self.state < DRAINING:
            self.keep(data + at, size - at, whole)
            if not self._may_read():
                self.pause()
            elif self.work >= self.most:
                self.pause()
                self._go_on()
        else:
            self.drop_store()
        if self.link is not None and self.state == FRAMES:
            self.link.cork()
        if self.is_gathering():
            self.end_gathering()
        elif self.pending is not None and not self.has_backlog:
            self._flush()
        self._note_held()
        return 0

    cdef int _note_held(self) except -1:
        # Count the bytes that are held and not handled yet. If all connections together hold too
        # much, `incoming` cuts the largest.
        cdef Incoming incoming = self.service.incoming
        cdef Py_ssize_t held = self.touched + self.request_size
        if self.reader is not None:
            held += self.reader.held()
        if self.parser is not None:
            held += self.parser.capacity
        if self.message is not None:
            held += PyBytes_GET_SIZE(self.message)
        if held and self.asyncio_transport is not None:
            if self.share is None:
                self.share = incoming.enter(self.service.cut, self)
            if self.share.size != held:
                incoming.resize(self.share, held)
        elif self.share is not None:
            incoming.end(self.share)
            self.share = None
        return 0

    cdef bint _may_read(self) noexcept:
        if self.is_stalled or self.is_awaiting:
            return False
        if self.state == HELD:
            # Reading goes on, so the end of the peer is noticed at once.
            return self.stored <= MAX_WAITING
        return self.state > READING or not self.has_backlog

    cdef int _go_on(self) except -1:
        # Handle the bytes that wait in the next turn, not now: the hub may be the caller.
        if self.is_running or self.is_due or self.asyncio_transport is None:
            return 0
        if self.stored or self.is_paused or self.message is not None:
            self.is_due = True
            self.service.enter(self)
        return 0

    def go_on(self):
        """Handle bytes that wait, as far as a turn allows; the service calls this."""
        self.is_due = False
        self.work = 0
        if self.asyncio_transport is None:
            return
        try:
            self._continue()
        except Exception:
            self._failed()
        finally:
            self.memory.owner = NULL

    cdef int _continue(self) except -1:
        cdef bytes message
        if self.message is not None and not self.is_stalled:
            message, self.message = self.message, None
            if self.state == FRAMES:
                self._take(
                    <const uint8_t*>PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message),
                    self.message_is_text,
                )
        self._consume(self.store + self.begin, self.stored)
        if self.state < GONE and self._may_read() and not self.is_due:
            self.resume()
        return 0

    cdef int _put(self, bytes data) except -1:
        if self.is_gathering():
            return self.gather(
                <const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL, 0
            )
        if self.pending is None:
            self.pending = []
        self.pending.append(data)
        return 1

    cdef int _flush(self) except -1:
        # Send pending bytes, behind any backlog. 0: broken.
        cdef list pieces = self.pending
        if self.is_gathering():
            return self.send_gathered()
        self.pending = None
        return 1 if pieces is None else self.send_all(pieces)

    cdef int broken(self) except -1:
        return self._hang_up(True)

    def peer(self):
        """Return the peer's (host, port); None for a Unix socket, and when it is gone."""
        return None if self.asyncio_transport is None else client_of(self.asyncio_transport)

    # -- a Transport

    cpdef bint write(self, list packets):
        if self.state != FRAMES:
            return False
        if len(packets) == 1 and self.pending is None and not self.is_gathering():
            return self.send_bytes(self._frame_of(packets[0]))
        cdef list pieces = [self.take_gathered()] if self.is_gathering() else self.pending or []
        self.pending = None
        for packet in packets:
            pieces.append(self._frame_of(packet))
        return self.send_all(pieces)

    cdef int gather_reply(self, const uint8_t* payload, Py_ssize_t size, bint is_binary) except -1:
        # Put a reply aside until the end of the read. If the peer has gone, the reply is lost.
        cdef uint8_t[10] head
        cdef bytes piece
        if (
            not self.is_running or self.state != FRAMES or self.has_backlog
            or self.deflate is not None
        ):
            return 0
        if self.pending is not None:
            pieces, self.pending = self.pending, None
            for piece in pieces:
                self.gather(
                    <const uint8_t*>PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece), NULL, 0
                )
        self.gather(
            head, frames.write_head(head, frames.BINARY if is_binary else frames.TEXT, size),
            payload, size,
        )
        return 1

    cdef bytes _frame_of(self, object given):
        cdef Packet packet = <Packet?>given
        return packet.frame() if self.deflate is None else packet.deflated(self.deflate)

    cpdef close(self, int code=1000, str reason=""):
        if self.state != FRAMES:
            return
        self._put(frames.frame(frames.CLOSE, frames.close_payload(code, reason)))
        self.close_code = code
        self.state = CLOSING
        if not self._flush():
            return
        self._await_close()
        # Read the peer again if reading was paused: its close frame has to be found.
        self.message = None
        self.is_stalled = False
        self._go_on()

    cdef int _await_close(self) except -1:
        # Wait a limited time for the peer's close frame, from when the peer can have read ours.
        config = self.service.config
        return self._arm(config.stop_timeout if self.has_backlog else config.close_timeout)

    cpdef set_reading(self, bint on):
        self.is_stalled = not on
        if on:
            self._go_on()
        else:
            self.pause()

    # -- HTTP

    cdef Py_ssize_t _read_http(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef RequestReader reader = self.reader
        cdef Py_ssize_t used = 0
        cdef int64_t since
        if reader is None:
            reader = self.reader = self.service.reader()
            if self.state == IDLE:
                self.state = READING
                self._arm(self.service.handshake_timeout)
        cdef int found = reader.feed(data, size, &used)
        self.work += LEAST_WORK + used
        if found == request_reader.REQUEST:
            self.work += REQUEST_WORK + BYTE_WORK * PyBytes_GET_SIZE(reader.body)
            self.reader = None
            since = tick()
            self._request_came(reader)
            self._took_since(since)
            reader.head = reader.body = reader.key = None
            self.service.spare = reader
        elif found == request_reader.HEAD and self.is_surplus and self.service.is_full():
            self._refuse_early(503, FULL, "full")
            return size
        elif found == request_reader.HEAD:
            self._arm(self.service.config.body_timeout)
            if reader.wants_continue and used == size:
                self._put(self.service.http1.CONTINUE)
        elif found == request_reader.REFUSED:
            self._refuse_early(reader.status, reader.why)
            return size
        return used

    cdef int _request_came(self, RequestReader reader) except -1:
        cdef Service service = self.service
        cdef object method, is_upgrade, switch
        cdef Request request = request_of(
            reader.head, self.asyncio_transport, "https" if self.is_tls else "http"
        )
        if self.is_tls:
            request.client = self.peer()    # the transport below TLS forgets it
        self.state = HELD
        self._disarm()
        method = request.method
        self.keeps_alive = not (
            reader.wants_close or reader.is_http_1_0 or service.is_single
            or service.is_crowded()
        )
        self.is_head = method == "HEAD"
        if service.forwarded is not None:
            service.forwarded(request, self)
        if reader.body and service.http1.is_form(request):
            request.set_form(reader.body)
        if not (
            service.path is None
            or (service.plain_path is not None and asks_for(reader.head, service.plain_path))
            or request.path == service.path
        ):
            fallback = service.fallback
            self._settle(None if fallback is None else fallback(request), None, None)
            return 0
        self.request = request
        switch, is_upgrade = None, reader.wants_websocket
        if is_upgrade and reader.key is None and service.http1.lost_fields(request):
            is_upgrade = False          # a proxy removed Connection: the endpoint refuses that
        if is_upgrade:
            switch = self._check_upgrade(request, reader.key)
            if isinstance(switch, Response):
                return self._answer(switch)
        result = service.endpoint.admit(
            request, is_upgrade=is_upgrade, is_loopback=service.is_loopback
        )
        self._settle(result, reader.body, switch)
        return 0

    cdef object _check_upgrade(self, object request, bytes key):
        # Return the 101, with what was agreed on, or the Response that refuses.
        cdef Service service = self.service
        cdef object agreed = None, switch
        # Without a key the handshake is wrong: http1 finds out why.
        if key is None:
            switch = service.http1.check_upgrade(request)
        else:
            switch = frames.switch(key)
        if isinstance(switch, Response):
            return switch
        if field_value(request.head, "sec-websocket-protocol", None) is not None:
            switch = service.http1.with_subprotocol(switch, request)
        if service.extensions is not None:
            agreed = service.extensions.agree(request)
            if isinstance(agreed, Response):
                return agreed
            if agreed is not None:
                switch = service.http1.with_extension(switch, agreed.answer)
        self.deflate = agreed
        return switch

    cdef int _settle(self, object result, bytes body, bytes switch) except -1:
        # Go on with the result, or the awaitable, of the endpoint or of the fallback (then body is
        # None). While it waits, nothing is read.
        if is_awaitable(result):
            if body is not None:
                self._arm(self.service.handshake_timeout)
            self.is_awaiting = True
            self.request_size = 0 if body is None else PyBytes_GET_SIZE(body)
            # Nor is the end of the peer noticed: what a hook began, as a client's move to another
            # process, is brought to its end.
            self.pause()
            self.service.clock.start(self._await(result, body, switch))
            return 0
        self._disarm()
        if isinstance(result, Response):
            self._answer(result)
        elif body is None:
            if result is not None:
                raise TypeError(f"fallback: expected a Response or None, got {result!r:.80}")
            self._answer(self.service.http1.refuse(404, "not found"))
        elif result.kind == "ws":
            self._upgrade(switch, result)
        else:
            self._hold(result, body)
        return 0

    async def _await(self, awaitable, bytes body, bytes switch):
        try:
            result = await awaitable
            if self.is_awaiting:        # else the peer has left, or got 503
                self.is_awaiting = False
                self.request_size = 0
                self._settle(result, body, switch)
                self._go_on()
        except Exception:
            self._failed()

    cdef int _hold(self, object admission, bytes body) except -1:
        # Park a poll, or wait for the reply to a POST.
        cdef Answer answer = Answer(self)
        cdef Link link
        endpoint = self.service.endpoint
        self.answer = answer
        if admission.kind == "post":
            link = endpoint.post(admission, body, answer)
        else:
            link = endpoint.open(admission, answer)
        if answer.protocol is not None:
            self.link = link
        elif answer.code and link is not None:
            endpoint.closed(link, answer.code)
        return 0

    cdef int _upgrade(self, bytes switch, object admission) except -1:
        # Become a WebSocket: send the 101 and the handshake in one send.
        if switch is None:
            raise TypeError("expected an admission for a poll or a POST, got one for a WebSocket")
        self._put(switch)
        self.state = FRAMES
        config = self.service.config
        self.parser = Parser(
            config.max_message_bytes, True, may_deflate=self.deflate is not None,
            max_empty=config.max_empty_fragments,
        )
        self.link = <Link?>self.service.endpoint.open(admission, self)
        if self.service.answered is not None:
            self.service.answered(self.request, 101)
        self.request = None
        self._flush()
        return 0

    cdef int _answer(self, object response) except -1:
        # Answer the request; then handle the next one, or end the connection. 0: broken.
        cdef Answer answer = self.answer
        cdef object fields = ()
        self.keeps_alive = self.keeps_alive and not self.service.is_stopping
        if self.request is not None:
            fields = self.service.endpoint.answer_fields(self.request)
        self._put(self.service.http1.render(
            response, keep_alive=self.keeps_alive, head_only=self.is_head, fields=fields))
        if self.request is not None and self.service.answered is not None:
            self.service.answered(self.request, response.status)
        self.request = None
        self.is_awaiting = False
        self.request_size = 0
        link, self.link = self.link, None
        self.answer = None
        if answer is not None:
            answer.protocol = None
        if not self._flush():
            self.link = link        # so that connection_lost ends it
            return 0
        self.had_taken = 0
        if self.keeps_alive:
            self.state = IDLE
            self._arm(self.service.config.http_idle_timeout)
            self._go_on()
        else:
            self._drain()
        return 1

    cdef int _refuse(self, int status, str why, str reason="http") except -1:
        # Answer with one line, and end the connection.
        self.keeps_alive = False
        return self._answer(self.service.endpoint.refuse(reason, status, why))

    cdef int _refuse_early(self, int status, str why, str reason="http") except -1:
        # Refuse a request that is not complete. If its head is, a page may still read why.
        cdef bytes head = self.reader.head
        request = Request(head or b"")
        self.reader = None
        self.is_head = request.method == "HEAD"
        if request.path == self.service.path:
            self.request = request
        return self._refuse(status, why, reason)

    # -- WebSocket

    cdef Py_ssize_t _read_frames(
        self, uint8_t* data, Py_ssize_t size, Py_ssize_t* whole
    ) except -1:
        cdef frames.Frame frame
        cdef Py_ssize_t at = 0
        whole[0] = 0
        try:
            while (
                not self.is_stalled and self.work < self.most
                and (self.state == FRAMES or self.state == CLOSING)
            ):
                self.parser.next(data + at, size - at, &frame)
                at += frame.used
                self.work += LEAST_WORK + frame.used
                if frame.kind == frames.NEED_MORE:
                    if frame.used == 0:
                        whole[0] = frame.whole
                        break
                elif frame.kind == frames.CLOSE:
                    self._close_came(&frame)
                elif self.state == CLOSING:
                    pass                # our close frame is sent: nothing is handled any more
                elif frame.kind == frames.MESSAGE:
                    self.work += BYTE_WORK * frame.size
                    if frame.is_deflated:
                        self._take_deflated(&frame)
                    else:
                        self._take(frame.data, frame.size, frame.is_text)
                elif frame.kind == frames.PING:
                    self._ping_came(&frame)
        except FrameError as error:
            self.service.timers.log_limit.warning(
                log, "ws_frame_error peer=%r %s", self.peer(), error
            )
            self._last_word(error.close_code, error.message)
            return size
        return at

    cdef int _take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1:
        # Pass a message to the dispatch. If there is no room, it waits here, and so does the peer.
        cdef int64_t since = tick() if size > MAX_UNTIMED else 0
        if self.link.take(data, size, is_text) == 0:
            self.message = PyBytes_FromStringAndSize(<const char*>data, size)
            self.message_is_text = is_text
            self.is_stalled = True
            self.pause()
        elif size > MAX_UNTIMED:
            self._took_since(since)
        return 0

    cdef int _took_since(self, int64_t since) except -1:
        # Count the time that a message or a request took as work; nearly always none.
        cdef Py_ssize_t work = TICK_WORK * <Py_ssize_t>(tick() - since)
        if self.is_tls and self.state == FRAMES:
            self.service.spend(work)    # its own read is still handled to the end
        else:
            self.work += work
        return 0

    cdef int _take_deflated(self, frames.Frame* frame) except -1:
        # Inflate a message, and keep the bytes that the peer's next one may refer to.
        cdef bytes message = self.deflate.inflate(
            frame.data, frame.size, frame.is_text, self.window
        )
        self.window = self.deflate.slide(self.window, message)
        self.work += BYTE_WORK * PyBytes_GET_SIZE(message)
        return self._take(
            <const uint8_t*>PyBytes_AS_STRING(message), PyBytes_GET_SIZE(message), frame.is_text
        )

    cdef int _ping_came(self, frames.Frame* frame) except -1:
        # Answer a ping at the end of the read; of many that the peer does not read, only the last.
        if self.has_backlog:
            self.pending = None
        elif self.pending is not None and len(self.pending) >= MAX_PONGS and not self._flush():
            return 0
        return self._put(frames.frame(
            frames.PONG, PyBytes_FromStringAndSize(<char*>frame.data, frame.size)
        ))

    cdef int _close_came(self, frames.Frame* frame) except -1:
        # Answer a close frame with its own code and reason, and hang up.
        cdef bytes payload = b""
        if self.state == FRAMES:
            if frame.code != frames.NO_STATUS:
                payload = PyBytes_FromStringAndSize(<char*>frame.data - 2, frame.size + 2)
            self.link.cork()            # sends the replies to messages before it
            self.close_code = frame.code
            self._put(frames.frame(frames.CLOSE, payload))
            self._flush()
        self._hang_up(False)
        return self._end_link(self.close_code)

    def _last_word(self, int code, str reason not None):
        # Close a WebSocket after all replies: its bytes cannot be read any further.
        if self.state == FRAMES:
            if self.link is not None:
                self.link.cork()
            self.close_code = code
            self._put(frames.frame(frames.CLOSE, frames.close_payload(code, reason)))
            self._flush()
        self._drain()
        self._end_link(self.close_code)

    # -- the end

    def shutdown(self):
        """End the connection because the server stops: once its messages and requests are handled
        and answered, or after stop_timeout."""
        if (
            self.link is not None and (self.state == FRAMES or self.answer is not None)
            and self.service.endpoint.settles(self.link, self._shut_down)
        ):
            self._arm(self.service.config.stop_timeout)
        else:
            self._shut_down()

    def _shut_down(self):
        # A socket closes with 1012, behind all that waits for it. A request that waits for its
        # answer gets 503. A connection without a request gets no answer.
        if self.state == FRAMES:
            if self.link is not None:
                self.service.endpoint.drained(self.link)    # behind a backlog, if there is one
            self.close(1012, "service restart")
        elif self.answer is not None:
            self.service.endpoint.give_up(self.link)
        elif self.state == HELD:
            self.keeps_alive = False
            self._answer(self.service.endpoint.refuse("stopping", 503, "the server is stopping"))
        elif self.state <= READING and self.reader is None:
            self._hang_up(False)
        elif self.state <= READING:
            self._refuse_early(503, "the server is stopping", "stopping")
        elif self.state >= DRAINING and self.asyncio_transport is not None and not self.has_backlog:
            self._arm(self._patience())     # its last answer is sent already

    def cut(self):
        """End a connection that holds too many unhandled bytes; `incoming` calls this."""
        self.share = None
        try:
            self._cut()
        except Exception:
            self._failed()

    cdef int _cut(self) except -1:
        if self.state == FRAMES or self.state == CLOSING:
            self._last_word(1013, "too much is under way")
        elif self.state == HELD and self.answer is not None:
            self.keeps_alive = False
            self.service.endpoint.give_up(self.link, ("incoming_full", 503, BUSY))
        elif self.state == HELD:
            self._refuse(503, BUSY, "incoming_full")
        elif self.state == READING and self.reader is not None:
            self._refuse_early(503, BUSY, "incoming_full")
        elif self.state <= READING:
            self._hang_up(False)
        return 0

    cdef double _patience(self) except -1:
        # Return how long the peer has to read our last answer, and to close.
        cdef double timeout = self.service.config.close_timeout
        return min(timeout, STOP_LINGER) if self.service.is_stopping else timeout

    cdef int _arm(self, double delay) except -1:
        # Limit the time that the present state may last.
        self._disarm()
        self.is_put_off = False
        self.entry = self.service.timers.schedule(delay, self.service.expire, self)
        return 0

    cdef int _disarm(self) except -1:
        if self.entry is not None:
            self.service.timers.cancel(self.entry)
            self.entry = None
        return 0

    def expired(self):
        """End a state that lasted too long; the timer queue calls this."""
        self.entry = None
        if self.service.timers.is_late and not self.is_put_off:
            # The timer itself is late, so bytes that arrived in time may not be read yet.
            self._arm(self.service.timers.lag)
            self.is_put_off = True
            return
        if self.state == FRAMES or self.answer is not None:
            self._shut_down()           # stop_timeout is over
        elif self.state == HELD:
            self._refuse(503, "the server took too long")
        elif self.state == READING and self.reader is not None:
            self._refuse_early(408, "expected a whole request sooner")
        elif self.close_code == 0 and self._is_taking():    # with a close code: a WebSocket
            self._arm(self.service.config.http_idle_timeout)
        else:
            self._hang_up(self.state > FRAMES)

    cdef bint _is_taking(self) except -1:
        # Return whether the peer has read bytes since the last call, however few.
        cdef int64_t before = self.had_taken
        self.had_taken = self.taken()
        return self.had_taken > before

    cdef int _end_link(self, int code) except -1:
        # Inform the endpoint, once, that the connection it opened has ended.
        cdef Link link = self.link
        self.link = None
        self.parser = self.window = None
        if link is not None:
            self.service.endpoint.closed(link, code)
        return 0

    cdef int _drain(self) except -1:
        # Send nothing more, and read until the peer ends: an RST would overtake our last answer.
        if self.asyncio_transport is None or self.state >= DRAINING:
            return 0
        if not self.asyncio_transport.can_write_eof():
            return self._hang_up(False)
        self.state = DRAINING
        self.reader = None
        self.message = None
        self.is_stalled = False
        self.fd = -1
        try:
            self.asyncio_transport.write_eof()
        except OSError:
            return self._hang_up(True)      # the peer has left already
        self._arm(self._patience())
        return self._go_on()

    cdef int _hang_up(self, bint at_once) except -1:
        # Close the transport: after the bytes that it holds, or at once.
        self.fd = -1
        self.state = GONE
        if self.asyncio_transport is not None:
            if at_once:
                self.asyncio_transport.abort()
            else:
                # Bytes that the peer never reads must not hold the connection forever.
                self._arm(self._patience())
                self.asyncio_transport.close()
        return 0

    def _failed(self):
        # An internal error: it ends this connection, and the peer gets an answer.
        log_limit = self.service.timers.log_limit
        log_limit.exception(log, "connection_error state=%d peer=%r", self.state, self.peer())
        try:
            if self.state == FRAMES and self.link is None and self.pending is not None:
                self.state = HELD       # its 101 was not sent: HTTP can still answer
                self.pending = None
                self.parser = None
            if self.state == FRAMES or self.state == CLOSING:
                self._last_word(1011, "internal error")
            elif self.state == HELD:
                self._refuse(500, "internal server error")
            else:
                self._hang_up(True)
        except Exception:
            log_limit.exception(log, "connection_error peer=%r", self.peer())
            self._hang_up(True)


include "echo.pxi"
