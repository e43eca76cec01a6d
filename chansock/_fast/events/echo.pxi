# A part of events/server_protocol: a WebSocket that answers each message with itself. It is a Link,
# like the dispatch's Connection, so conformance suites and benches exercise the protocol that a
# channel runs on. No event, no session.

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from chansock._fast.events.packet cimport Packet
from chansock._fast.io.transport cimport Link


@cython.final
cdef class Echo(Link):
    """Sends messages back in order, all of one read in one send (but those it may deflate).

    Echo stops reading a peer that does not read, until `drained`.
    """

    cdef Protocol protocol

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
        """Read on, since the peer reads again."""
        self.protocol.set_reading(True)
