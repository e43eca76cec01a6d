# cython: language_level=3
"""A WebSocket that answers each message with itself: frames and sockets, nothing above.

It is a Link, as the dispatch's Connection is, so that conformance suites and measurements
meet the very protocol that a channel runs on. No packet, no event, no session.
"""

cimport cython
from cpython.bytes cimport PyBytes_FromStringAndSize
from libc.string cimport memcpy
from chansock._fast cimport frames
from chansock._fast.packet cimport Packet

cdef enum:
    MAX_COPIED = 65536          # what is longer is sent from where it lies
    MAX_GATHERED = 262144       # answers of one read go out in sends of this


@cython.final
cdef class Echo(Link):
    """Gives messages back in order, all of one read in one send (but those it may deflate).

    `out` is where all echoes of a listener gather them. A peer that does not read is not
    read either, until `drained`.
    """

    def __cinit__(self, Protocol protocol not None, WriteBuffer out not None):
        self.protocol = protocol
        self.out = out

    cdef int take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1:
        cdef WriteBuffer out = self.out
        if self.protocol.has_backlog:
            return 0
        if self.protocol.deflate is not None:
            # As the channel sends: a packet, deflated where that makes it shorter.
            payload = PyBytes_FromStringAndSize(<const char*>data, size)
            self.protocol.write([Packet(payload, not is_text)])
            return 1
        if not self.is_gathering:
            out.cut(0)                  # what one that broke in its read has left
        if out.size + size > MAX_GATHERED and not self.cork():
            return 1                    # the peer has gone
        self.is_gathering = True
        out.reserve(frames.head_size(size) + min(size, <Py_ssize_t>MAX_COPIED))
        out.size += frames.write_head(
            out.data + out.size, frames.TEXT if is_text else frames.BINARY, size
        )
        if size > MAX_COPIED:
            self._send(data, size)
        elif size:
            memcpy(out.data + out.size, data, size)
            out.size += size
        return 1

    cdef int cork(self) except -1:
        return self._send(NULL, 0)

    cdef int _send(self, const uint8_t* data, Py_ssize_t size) except -1:
        """Send pongs, what was gathered, and data behind it. 0: the peer has gone."""
        cdef Protocol protocol = self.protocol
        cdef WriteBuffer out = self.out
        cdef Py_ssize_t gathered = out.size if self.is_gathering else 0
        out.cut(0)                      # whatever happens: the next read is another peer's
        self.is_gathering = False
        if gathered == 0:
            return 1
        if protocol.pending is not None and not protocol._flush():
            return 0
        if size:
            return protocol.send_pair(out.data, gathered, data, size)
        return protocol.send(out.data, gathered, None)

    def drained(self):
        """Go on, since the peer reads again."""
        self.protocol.set_reading(True)
