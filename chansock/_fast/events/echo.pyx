# cython: language_level=3
"""A WebSocket that answers each message with itself: frames and sockets, nothing above.

It is a Link, as the dispatch's Connection is, so that conformance suites and measurements
meet the very protocol that a channel runs on. No packet, no event, no session.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from chansock._fast.events.packet cimport Packet


@cython.final
cdef class Echo(Link):
    """Gives messages back in order, all of one read in one send (but those it may deflate).

    A peer that does not read is not read either, until `drained`.
    """

    def __cinit__(self, Protocol protocol not None):
        self.protocol = protocol

    cdef int take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1:
        if self.protocol.has_backlog:
            return 0
        if not self.protocol.gather_reply(data, size, not is_text):
            # As the channel sends: a packet, deflated where that makes it shorter.
            payload = PyBytes_FromStringAndSize(<const char*>data, size)
            self.protocol.write([Packet(payload, not is_text)])
        return 1

    cdef int cork(self) except -1:
        return 0

    def drained(self):
        """Go on, since the peer reads again."""
        self.protocol.set_reading(True)
