# Plain TCP connections on epoll: in C what a loop's own transports do.
#
#   loop --readable--> Poller.turn --recv of one--> Socket.took
#                             \--recv of several--> Socket.took_ahead of each --> their sends
#                             \--accept--> factory() --> connection_made
#   another's transport --adopt--> connection_made --> Socket.feed
#   Socket.send --send(2)--> kernel;  the rest --> EpollTransport.write --> queue

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from chansock._fast.io.socket cimport Memory, Socket

cdef extern from "io/epoll.h":
    ctypedef struct chansock_event:
        pass
    ctypedef struct Peer "chansock_peer":
        uint8_t[16] bytes
        uint32_t flow
        uint32_t scope
        uint16_t port
        uint8_t family              # 4, 6, or 0: an address without a name

cdef enum:
    # Of a turn. With more, the last ones to be answered miss a turn when the server is busy.
    MAX_EVENTS = 32


cdef class Watched:
    cdef Poller poller
    cdef int fd                     # owned; -1: closed
    cdef uint32_t mask              # what epoll watches it for; 0: epoll does not know it
    cdef uint32_t generation        # distinguishes it from others that had this descriptor

    cdef int ready(self, uint32_t mask) except -1
    cdef int failed(self) except -1
    cdef int watch(self, uint32_t mask) except -1
    cdef int shut(self) except -1


cdef class EpollTransport(Watched):
    cdef Socket protocol
    cdef Peer peer
    cdef object context             # its own, once something is set in it; None: the poller's
    # bytes that the kernel did not take
    cdef object queue               # deque of bytes; None: nothing waits
    cdef Py_ssize_t sent            # of the first of them
    cdef Py_ssize_t waiting         # bytes of all, without those
    # its state
    cdef bint is_reading
    cdef bint is_closed             # nothing is read or accepted any more
    cdef bint is_ending             # this side ends once nothing waits
    cdef bint is_lost               # connection_lost was called, or is about to be

    cdef int take(self, uint8_t* data, Py_ssize_t got) except -1
    cdef object _enter(self)
    cdef int _leave(self, object context) except -1
    cdef int _update(self) except -1
    cdef int _read(self) except -1
    cdef int _read_none(self, Py_ssize_t why) except -1
    cdef int _write(self) except -1
    cdef int _wait(self, bytes data, Py_ssize_t sent) except -1
    cdef int _lose(self, object error) except -1


cdef class Acceptor(Watched):
    cdef object factory

    cdef int _begin(self, EpollTransport transport) except -1


cdef class Poller:
    cdef readonly object loop
    cdef object log_limit           # of the lines that belong to no channel
    cdef int fd                     # owned; -1: closed
    cdef list watched               # by descriptor, with None between
    cdef readonly Py_ssize_t count  # of those
    cdef uint32_t generation
    cdef object context             # that of its creation
    cdef object untouched           # a copy, for connections that have set no variable
    cdef bint is_closing            # it ends with the last of them
    cdef chansock_event[MAX_EVENTS] events
    cdef Py_ssize_t[MAX_EVENTS] got  # for those that were read ahead: bytes, 0, or -errno

    cdef int add(self, Watched watched) except -1
    cdef Watched _of(self, chansock_event* event)
    cdef int _read_ahead(self, int first, int end) except -1
    cdef int _take_ahead(self, int first, int end) except -1
    cdef object _failed(self, Watched watched, object error)
