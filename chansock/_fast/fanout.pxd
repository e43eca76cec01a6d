# What waits for whom, and how it goes out: outboxes that are pointers into a tree
# of shared nodes, and one flush for all that a turn made. No user, no policy, no loop.

from cpython.object cimport PyObject
from chansock._fast.packet cimport Packet, Packer


cdef class Transport:
    # The one C method table of the hot path: what an edge gives to the core.
    # Sockets override it in Cython; polls and frameworks in Python.
    cdef readonly str kind              # "ws" | "ajax"
    cdef public bint heard              # bytes came since the last look of the keep-alive

    # All packets in one send, in order. False: closed, nothing was taken.
    cpdef bint write(self, list packets)
    # Idempotent. An ajax transport ends its parked request with 503 instead of a code.
    cpdef close(self, int code=*, str reason=*)
    # Bytes accepted by write and not yet taken by the kernel.
    cpdef Py_ssize_t backlog(self)
    # False: read no more (what was read and not taken stays with the edge).
    # True: give the dispatch what was not taken, then read on.
    cpdef set_reading(self, bint on)
