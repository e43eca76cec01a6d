# cython: language_level=3
"""Transport and Link: the interfaces between an edge and what the edge serves.

Both are base classes, because each event makes several calls through their C method tables.
They hold no logic.
"""


cdef class Transport:
    """What an edge gives to the core for one socket, or for one parked request.

    Guarantees asked of an implementation: `write` takes all packets, in order, or
    none (False: closed); `close` may be called twice; after `set_reading(False)`
    no message is given to the dispatch until `set_reading(True)`.
    """

    cpdef bint write(self, list packets):
        """Send all packets in order, in one send. False: closed, nothing was taken."""
        raise NotImplementedError

    cdef int gather_reply(self, const uint8_t* payload, Py_ssize_t size, bint is_binary) except -1:
        return 0

    cpdef close(self, int code=1000, str reason=""):
        """Close after what was written; a parked request is answered 503."""
        raise NotImplementedError

    cpdef refuse(self, response):
        """Answer the request with a Response that is no packet; of an ajax transport only."""
        raise NotImplementedError

    cpdef Py_ssize_t backlog(self):
        """Give the bytes that `write` took and the kernel did not yet."""
        return 0

    cpdef set_reading(self, bint on):
        """Stop reading, or give what was not taken and read on."""


cdef class Link:
    """What takes the messages of one socket; the dispatch has the one of a channel."""

    cdef int take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1:
        raise NotImplementedError

    cdef int cork(self) except -1:
        raise NotImplementedError
