# permessage-deflate (RFC 7692) as one client and the server agreed on it: messages to
# smaller frames, and back. No socket, no loop; what was offered is not known here.

from libc.stdint cimport uint8_t


cdef class Deflate:
    # Shared by all connections that agreed on the same; nothing in it changes.
    # What we send
    cdef readonly int window_bits       # of our LZ77 window, 9 to 15; each message begins anew
    cdef int level
    cdef int memory_level
    cdef readonly Py_ssize_t threshold  # what is shorter is not worth it: for who asks

    # What the peer sends
    cdef readonly Py_ssize_t kept       # bytes of its last messages that a next may refer to; 0
    cdef Py_ssize_t max_size            # of a message, inflated

    cdef readonly str answer            # the value of Sec-WebSocket-Extensions that says so

    # A whole frame, RSV1 set; None: a plain one would be as short.
    cpdef bytes frame(self, bytes payload, bint is_binary)
    # The message in data, which is borrowed. `window`: what `slide` gave, None at first.
    cdef bytes inflate(
        self, const uint8_t* data, Py_ssize_t size, bint is_text, bytes window
    )
    # What the next message may refer to: the end of the last ones.
    cpdef bytes slide(self, bytes window, bytes message)
