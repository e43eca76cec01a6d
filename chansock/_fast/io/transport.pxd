# The two interfaces between an edge and what the edge serves, as C method tables.
#
#   edge --Link.take, Link.cork--> channel      what one peer sends
#   edge <--Transport.write------- channel      what goes to that peer
#
# No implementation here, and no knowledge of what the bytes mean.

from libc.stdint cimport uint8_t


cdef class Transport:
    # A C method table of the hot path: what an edge gives to the core.
    # Sockets override it in Cython; polls and frameworks in Python.
    cdef public str kind                # "ws" | "ajax"
    cdef public bint heard              # bytes came since the last look of the keep-alive

    # All packets in one send, in order. False: closed, nothing was taken.
    cpdef bint write(self, list packets)
    # Idempotent. An ajax transport ends its parked request with 503 instead of a code.
    cpdef close(self, int code=*, str reason=*)
    # A reply made while the transport's own read is handled: goes out at the end of the read,
    # before whatever `write` takes after it. 0: not now, and nothing was taken.
    cdef int gather_reply(self, const uint8_t* payload, Py_ssize_t size, bint is_binary) except -1
    # Ajax only: answer the request with a Response that is no packet (a 400, a 503).
    cpdef refuse(self, response)
    # Bytes accepted by write and not yet taken by the kernel.
    cpdef Py_ssize_t backlog(self)
    # False: read no more (what was read and not taken stays with the edge).
    # True: give the dispatch what was not taken, then read on.
    cpdef set_reading(self, bint on)


cdef class Link:
    # The other one, in the other direction: to whom an edge gives what one peer sends.

    # One message as received, borrowed until it returns. 1: taken. 0: no room, nothing was
    # taken; the edge keeps the message and all behind it, stops reading, and gives it again
    # after set_reading(True).
    cdef int take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1
    # End of a read: everything it made goes out in one send, with what waited before it.
    cdef int cork(self) except -1
