# cython: language_level=3
"""Plain TCP connections on Linux's epoll, in place of the loop's own transports.

The loop watches one descriptor for all connections. When it is readable, a turn accepts, reads,
and writes on descriptors that are ready, up to a limit. No Python code runs before a protocol has
its bytes, and no connection has an object of the loop. For protocols these are asyncio transports,
with the methods that `socket` and the server protocol use. TLS, Unix sockets, and other systems
stay with the loop. Nothing here looks at the bytes.

This saves a callback through Python and two acquisitions of the GIL for each read. It costs a
second `epoll_wait` for each turn, which only a lone client with one request at a time notices.
A turn reads several ready connections before it handles them, since each system call evicts
our code from the CPU caches. A connection whose handler sets a context variable gets a context
of its own, so no other connection sees the variable.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, ECONNABORTED, EINTR, EPERM, errno
from chansock._fast.io.tasks cimport is_same_context

import logging
import os
from collections import deque
from contextvars import copy_context
from socket import AF_INET, AF_INET6, inet_ntop

from chansock._core.log_limit import LogLimit

cdef extern from "Python.h":
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef extern from "io/epoll.h":
    enum:
        EPOLLIN
        EPOLLOUT
        EPOLLERR
        EPOLLHUP
        CHANSOCK_EPOLL
    int epoll_create "chansock_epoll_create" ()
    int epoll_watch "chansock_epoll_watch" (
        int epoll, int fd, uint32_t mask, uint32_t before, uint64_t mark
    )
    int epoll_ready "chansock_epoll_ready" (int epoll, chansock_event* events, int most)
    uint64_t event_mark "chansock_event_mark" (const chansock_event* event)
    uint32_t event_mask "chansock_event_mask" (const chansock_event* event)
    int accept "chansock_accept" (int fd, Peer* peer)
    int peer_of "chansock_peer_of" (int fd, Peer* peer)
    int bound_unsent "chansock_bound_unsent" (int fd, int bytes)
    int no_delay "chansock_no_delay" (int fd)
    int end_sending "chansock_end_sending" (int fd)
    int c_close "chansock_close" (int fd)
    int64_t tick "chansock_tick" ()

cdef extern from "io/calls.h":
    Py_ssize_t receive "chansock_receive" (int fd, void* data, Py_ssize_t size)
    Py_ssize_t send "chansock_send" (int fd, const void* data, Py_ssize_t size)

log = logging.getLogger("chansock.epoll")

# Whether this system has epoll; without it, no object here can be made.
IS_AVAILABLE = bool(CHANSOCK_EPOLL)

cdef enum:
    MAX_ACCEPTS = 64        # of one listener in a turn
    MAX_READS = 4           # of one connection in a turn, as long as they fill its buffer
    MAX_AHEAD = 16384       # bytes of several, read before any of them is handled
    ACCEPT_AGAIN = 1        # seconds, after descriptors or memory ran out


cdef object _error():
    return OSError(errno, os.strerror(errno))


cdef class Watched:
    """A descriptor that epoll watches."""

    def __cinit__(self, *args, **kwargs):
        self.fd = -1

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)

    def fileno(self):
        """Return the descriptor; -1: closed."""
        return self.fd

    cdef int ready(self, uint32_t mask) except -1:
        raise NotImplementedError

    cdef int failed(self) except -1:
        # End it: `ready` raised, and would raise again.
        return self.shut()

    cdef int watch(self, uint32_t mask) except -1:
        cdef uint64_t mark = (<uint64_t>self.generation << 32) | <uint32_t>self.fd
        if mask != self.mask and self.fd >= 0:
            if epoll_watch(self.poller.fd, self.fd, mask, self.mask, mark) < 0:
                raise _error()
            self.mask = mask
        return 0

    cdef int shut(self) except -1:
        cdef int fd = self.fd
        if fd >= 0:
            # A forked process may keep the descriptor open, and so epoll would keep it, too.
            self.watch(0)
            self.fd = -1
            c_close(fd)
            self.poller.watched[fd] = None
            self.poller.count -= 1
            if self.poller.is_closing:
                self.poller.close()
        return 0


@cython.final
cdef class EpollTransport(Watched):
    """One connection, as the transport of a protocol."""

    cdef int ready(self, uint32_t mask) except -1:
        cdef object context = self._enter()
        try:
            if mask & EPOLLOUT:
                self._write()
            if self.is_reading and mask & (EPOLLIN | EPOLLERR | EPOLLHUP):
                self._read()
        finally:
            self._leave(context)
        return 0

    cdef object _enter(self):
        cdef object context = self.poller.untouched if self.context is None else self.context
        PyContext_Enter(context)
        return context

    cdef int _leave(self, object context) except -1:
        cdef Poller poller = self.poller
        PyContext_Exit(context)
        if self.context is None and not is_same_context(context, poller.context):
            self.context = context
            poller.untouched = poller.context.copy()
        return 0

    cdef int failed(self) except -1:
        return self._lose(None)

    cdef int _update(self) except -1:
        return self.watch((EPOLLIN if self.is_reading else 0) | (EPOLLOUT if self.waiting else 0))

    # -- reading

    cdef int _read(self) except -1:
        cdef Socket protocol = self.protocol
        cdef uint8_t* data
        cdef Py_ssize_t size, got
        cdef int _try
        for _try in range(MAX_READS):
            protocol.room(&data, &size)
            got = receive(self.fd, data, size)
            if got <= 0:
                self._read_none(-errno if got else 0)
                break
            protocol.took(got)
            if got < size or not self.is_reading:
                break
        return 0

    cdef int _read_none(self, Py_ssize_t why) except -1:
        # Handle a read that returned nothing. 0: the peer's end; a negative number: an errno.
        if why == 0:
            self._ended()
        elif why != -EAGAIN and why != -EINTR:
            self._lose(OSError(-why, os.strerror(-why)))
        return 0

    cdef int take(self, uint8_t* data, Py_ssize_t got) except -1:
        # Pass on what was read ahead: that many bytes, or the reason why there are none.
        cdef object context
        if self.is_closed:
            return 0
        context = self._enter()
        try:
            if got > 0:
                self.protocol.took_ahead(data, got)
            else:
                self._read_none(got)
        finally:
            self._leave(context)
        return 0

    def _ended(self):
        # by the peer
        if self.protocol.eof_received():
            self.pause_reading()
        else:
            self.close()

    def pause_reading(self):
        """Read no more."""
        self.is_reading = False
        self._update()

    def resume_reading(self):
        """Read on."""
        if not self.is_closed:
            self.is_reading = True
            self._update()

    # -- writing

    def write(self, bytes data not None):
        """Send data behind the bytes that wait; pause_writing tells the protocol that it waits."""
        cdef Py_ssize_t sent = 0, size = PyBytes_GET_SIZE(data)
        if self.is_lost:
            return                      # after a mere close, it still takes bytes behind the rest
        if self.waiting:
            self.queue.append(data)
            self.waiting += size
            return
        sent = send(self.fd, PyBytes_AS_STRING(data), size)
        if sent == size:
            return
        if sent < 0:
            if errno != EAGAIN and errno != EINTR:
                self._lose(_error())
                return
            sent = 0
        self._wait(data, sent)

    def write_rest(self, bytes data not None, Py_ssize_t sent):
        """Send data from `sent` on, which the kernel has just not taken; no other bytes wait.

        The object is kept whole, so connections that wait for the same data share it.
        """
        if not self.is_lost:
            self._wait(data, sent)

    cdef int _wait(self, bytes data, Py_ssize_t sent) except -1:
        self.queue = deque((data,))
        self.sent = sent
        self.waiting = PyBytes_GET_SIZE(data) - sent
        self._update()
        self.protocol.pause_writing()
        return 0

    cdef int _write(self) except -1:
        cdef bytes first
        cdef Py_ssize_t sent, size
        while self.waiting:
            first = self.queue[0]
            size = PyBytes_GET_SIZE(first) - self.sent
            sent = send(self.fd, PyBytes_AS_STRING(first) + self.sent, size)
            if sent < 0:
                if errno != EAGAIN and errno != EINTR:
                    self._lose(_error())
                return 0
            self.waiting -= sent
            self.sent += sent
            if sent < size:
                return 0
            self.sent = 0
            self.queue.popleft()
        self.queue = None
        self._update()
        self.protocol.resume_writing()
        if self.waiting or self.is_lost:
            return 0
        if self.is_closed:
            self._lose(None)
        elif self.is_ending:
            end_sending(self.fd)
        return 0

    def get_write_buffer_size(self):
        """Return the number of bytes that wait."""
        return self.waiting

    def set_write_buffer_limits(self, high=None, low=None):
        """Do nothing: the protocol always pauses at the first waiting byte, and resumes at none."""

    def can_write_eof(self):
        """Return True: this side can end alone."""
        return True

    def write_eof(self):
        """End this side of the connection, behind the bytes that wait."""
        self.is_ending = True
        if self.waiting == 0 and self.fd >= 0 and end_sending(self.fd) < 0:
            raise _error()

    # -- the end

    def close(self):
        """Read no more, and close behind the bytes that wait."""
        if not self.is_closed:
            self.is_closed = True
            self.is_reading = False
            self._update()
            if self.waiting == 0:
                self._lose(None)

    def abort(self):
        """Close at once."""
        self._lose(None)

    def is_closing(self):
        """Return whether it is closed, or will be."""
        return self.is_closed

    cdef int _lose(self, object error) except -1:
        if not self.is_lost:
            self.is_lost = self.is_closed = True
            self.is_reading = False
            self.queue = None
            self.waiting = 0
            self._update()
            self.poller.loop.call_soon(self._lost, error)
        return 0

    def _lost(self, error):
        try:
            self.protocol.connection_lost(error)
        finally:
            self.protocol = None
            self.shut()

    def get_extra_info(self, name, default=None):
        """Return `peername`, or as `socket` an object that has its fileno."""
        if name == "socket":
            return self
        if name == "peername" and self.peer.family == 4:
            packed = PyBytes_FromStringAndSize(<char*>self.peer.bytes, 4)
            return inet_ntop(AF_INET, packed), self.peer.port
        if name == "peername" and self.peer.family == 6:
            packed = PyBytes_FromStringAndSize(<char*>self.peer.bytes, 16)
            return inet_ntop(AF_INET6, packed), self.peer.port, self.peer.flow, self.peer.scope
        return default


@cython.final
cdef class Acceptor(Watched):
    """One socket that listens."""

    cdef int ready(self, uint32_t mask) except -1:
        cdef EpollTransport transport
        cdef Peer peer
        cdef int _try, fd
        for _try in range(MAX_ACCEPTS):
            if self.fd < 0:
                break                   # a protocol has closed it
            fd = accept(self.fd, &peer)
            if fd >= 0:
                transport = EpollTransport.__new__(EpollTransport)
                transport.poller = self.poller
                transport.fd = fd
                transport.peer = peer
                self.poller.add(transport)
                self._begin(transport)
            elif errno == EAGAIN:
                break
            elif not (errno == ECONNABORTED or errno == EINTR or errno == EPERM):
                # Descriptors or memory ran out, so the peer is not to blame.
                self.poller.log_limit.error(log, "accept_error %s", os.strerror(errno))
                self.watch(0)
                self.poller.loop.call_later(ACCEPT_AGAIN, self._go_on)
                break
        return 0

    cdef int _begin(self, EpollTransport transport) except -1:
        try:
            transport.protocol = self.factory()
            transport.is_reading = True
            transport.protocol.connection_made(transport)
            transport._update()
        except Exception:
            self.poller.log_limit.exception(log, "accept_error")
            transport.is_lost = transport.is_closed = True
            transport.shut()
        return 0

    cdef int failed(self) except -1:
        return 0

    def _go_on(self):
        self.watch(EPOLLIN)

    def close(self):
        """Accept no more."""
        self.shut()


@cython.final
cdef class Poller:
    """One epoll and the descriptors that it watches; a loop calls its turns."""

    def __cinit__(self, loop):
        self.loop = loop
        self.log_limit = LogLimit(loop.time, loop.call_later)
        self.watched = []
        self.context = copy_context()
        self.untouched = self.context.copy()
        self.fd = epoll_create()
        if self.fd < 0:
            raise _error()
        loop.add_reader(self.fd, self.turn)

    def __dealloc__(self):
        if self.fd >= 0:
            c_close(self.fd)

    def fileno(self):
        """Return the descriptor that the loop watches; -1: closed."""
        return self.fd

    cdef int add(self, Watched watched) except -1:
        while len(self.watched) <= watched.fd:
            self.watched.append(None)
        self.watched[watched.fd] = watched
        self.count += 1
        self.generation += 1
        watched.generation = self.generation
        return 0

    def listen(self, sock, factory):
        """Accept the connections of a listening socket; factory() makes the protocol of each."""
        cdef Acceptor acceptor = Acceptor.__new__(Acceptor)
        acceptor.poller = self
        acceptor.factory = factory
        acceptor.fd = os.dup(sock.fileno())
        self.add(acceptor)
        os.set_blocking(acceptor.fd, False)
        no_delay(acceptor.fd)           # the sockets that it accepts inherit that
        acceptor.watch(EPOLLIN)
        return acceptor

    def adopt(self, int fd, Socket protocol not None, bytes data not None, *, int unsent):
        """Take over a connection that other code has accepted and has read `data` from.

        The poller owns `fd` from now on. `unsent`: how many bytes the kernel takes without sending
        them. Raises OSError if fd cannot be watched; fd is then closed, and protocol not called.
        """
        cdef EpollTransport transport = EpollTransport.__new__(EpollTransport)
        cdef object context
        transport.poller = self
        transport.fd = fd
        transport.protocol = protocol
        transport.is_reading = True
        self.add(transport)
        try:
            if peer_of(fd, &transport.peer) < 0:
                raise _error()
            os.set_blocking(fd, False)
            transport._update()
        except OSError:
            transport.is_lost = transport.is_closed = True
            transport.shut()
            raise
        no_delay(fd)
        bound_unsent(fd, unsent)
        context = transport._enter()
        try:
            protocol.connection_made(transport)
            protocol.feed(data)
        finally:
            transport._leave(context)

    cdef Watched _of(self, chansock_event* event):
        # Return the object of an event; None: an event before it has closed that object.
        cdef uint64_t mark = event_mark(event)
        cdef Watched watched = self.watched[<uint32_t>mark]
        # Its descriptor may belong to another object by now.
        return None if watched is None or watched.generation != mark >> 32 else watched

    def turn(self):
        """Handle the descriptors that are ready; the loop calls this."""
        cdef Watched watched
        cdef object raised
        cdef int at = 0, ahead, count = epoll_ready(self.fd, self.events, MAX_EVENTS)
        while at < count:
            # A single connection gains nothing from that.
            ahead = self._read_ahead(at, count) if count - at > 1 else 0
            if ahead:
                self._take_ahead(at, at + ahead)
                at += ahead
                continue
            watched = self._of(&self.events[at])
            try:
                if watched is not None:
                    watched.ready(event_mask(&self.events[at]))
            except BaseException as error:
                raised = self._failed(watched, error)
                if raised is not None:
                    raise raised
            at += 1

    cdef int _read_ahead(self, int first, int end) except -1:
        # Read for events from the first on, while they allow it, and return how many did. System
        # calls evict our code from the CPU caches, so it costs less to read for all, then handle
        # all, then write all.
        cdef EpollTransport transport
        cdef Watched watched
        cdef Memory memory = None
        cdef Py_ssize_t got, taken = 0
        cdef int at = first
        while at < end and taken < MAX_AHEAD:
            watched = self._of(&self.events[at])
            if type(watched) is not EpollTransport or event_mask(&self.events[at]) != EPOLLIN:
                break
            transport = <EpollTransport>watched
            if not transport.is_reading or not transport.protocol.is_empty():
                break
            if memory is None:
                memory = transport.protocol.memory
            elif memory is not transport.protocol.memory:
                break                   # of another listener
            got = receive(
                transport.fd, memory.buffer + taken, min(memory.size - taken, memory.most)
            )
            self.got[at] = got if got >= 0 else -errno
            taken += max(got, 0)
            at += 1
        return at - first

    cdef int _take_ahead(self, int first, int end) except -1:
        # Pass on what was read ahead for these events, and send their replies behind the last; or
        # earlier, if handling them takes noticeably long.
        cdef EpollTransport transport = <EpollTransport>self._of(&self.events[first])
        cdef Memory memory = transport.protocol.memory
        cdef uint8_t* data = memory.buffer
        cdef object failed, raised = None
        cdef int64_t now, since = tick()
        cdef int at
        memory.puts_off = True
        try:
            for at in range(first, end):
                transport = <EpollTransport>self._of(&self.events[at])
                try:
                    if transport is not None:
                        transport.take(data, self.got[at])
                except BaseException as error:
                    failed = self._failed(transport, error)
                    if failed is not None:
                        raised = failed     # the bytes of the others are read and must be passed on
                data += max(self.got[at], 0)
                now = tick()
                if now != since:
                    since = now
                    memory.send_put_off()
        finally:
            memory.puts_off = False
        memory.send_put_off()
        if raised is not None:
            raise raised
        return 0

    cdef object _failed(self, Watched watched, object error):
        # End an object that raised: its bytes may be lost. Return what the turn must raise.
        try:
            watched.failed()
            if not isinstance(error, Exception):
                return error
            self.log_limit.error(log, "epoll_error", error=error)
        except BaseException as worse:  # raised by a log handler, for example
            return worse
        return None

    def close(self):
        """End as soon as no descriptor is watched any more."""
        self.log_limit.sum_up()
        self.is_closing = True
        if self.count == 0 and self.fd >= 0:
            self.loop.remove_reader(self.fd)
            c_close(self.fd)
            self.fd = -1
