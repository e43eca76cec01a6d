# WebSocket frames (RFC 6455), their compression (RFC 7692), and the answer to a handshake.
# No socket, no loop.

from libc.stdint cimport uint8_t, uint64_t


cdef enum:
    # Opcodes, RFC 6455 section 5.2
    CONTINUATION = 0
    TEXT = 1
    BINARY = 2
    CLOSE = 8
    PING = 9
    PONG = 10

    # Frame.kind: a control frame has its opcode, a whole message of either type MESSAGE
    NEED_MORE = 0
    MESSAGE = 1

    NO_STATUS = 1005                # Frame.code of a close frame without one


cdef struct Frame:
    int kind
    Py_ssize_t used                 # bytes of the input that are done with
    Py_ssize_t whole                # NEED_MORE: size of the frame begun, head included; 0: unknown
    # Borrowed: lies in the input, or in the parser's store until its next call.
    # Of a close frame the reason, whose code is in `code`.
    uint8_t* data
    Py_ssize_t size
    bint is_text
    bint is_deflated                # a MESSAGE as RFC 7692 made it: compressed, not checked
    int code


cdef extern from "ws/mask.h":
    ctypedef struct Utf8 "chansock_utf8":
        uint8_t need                # bytes to come of a character that is open


cdef class Parser:
    # Role and limits
    cdef Py_ssize_t max_size        # of one message, joined, as it comes
    cdef Py_ssize_t max_empty       # fragments without a byte, in succession
    cdef bint masked                # whether the peer must mask: true on a server
    cdef bint may_deflate           # RSV1 may stand on a message's first frame (RFC 7692)

    # The frame at the front, if it is incomplete
    cdef Py_ssize_t done            # bytes of its payload that are unmasked and checked
    cdef Utf8 text                  # of a text: the character that is open behind those

    # The message that comes in fragments, if one does; owned, malloc
    cdef uint8_t* store
    cdef Py_ssize_t stored
    cdef Py_ssize_t capacity
    cdef Py_ssize_t empty           # fragments without a byte that came last
    cdef uint8_t opcode             # TEXT or BINARY; 0: no message is open
    cdef bint is_deflated
    cdef bint is_lent               # a caller uses the store: the next call frees it

    # Find the next message or control frame in data. 0, or -1 with FrameError, after which the
    # parser cannot be used again. Bytes are unmasked in place, each once: the caller passes bytes
    # that were not used again as they then are, with more behind them, wherever they then lie.
    cdef int next(self, uint8_t* data, Py_ssize_t size, Frame* frame) except -1
    cdef int _join(self, Frame* frame, bint fin) except -1
    cdef int _release(self) noexcept


# Bytes that write_head needs for a payload of this size: 2, 4 or 10.
cdef inline Py_ssize_t head_size(Py_ssize_t size) noexcept nogil:
    return 2 if size < 126 else 4 if size < 65536 else 10

# Write the head of an unmasked frame with FIN, and return its size.
cdef Py_ssize_t write_head(uint8_t* out, int opcode, Py_ssize_t size) noexcept nogil

# Return whether data is whole UTF-8 characters; for text that the parser did not check.
cdef bint is_utf8(const uint8_t* data, Py_ssize_t size) noexcept nogil

cpdef bytes frame(int opcode, object payload, bytes mask=*, bint fin=*)
cpdef bint is_close_code(int code) noexcept
cpdef bytes close_payload(int code, str reason=*)


# -- deflate --

cdef class Deflate:
    # Shared by all connections that agreed on the same; nothing in it changes.
    # Messages that we send
    cdef readonly int window_bits       # of our LZ77 window, 9 to 15; each message begins anew
    cdef int level
    cdef int memory_level
    cdef readonly Py_ssize_t threshold  # bytes; a shorter message is not worth it: callers check

    # Messages that the peer sends
    cdef readonly Py_ssize_t kept       # bytes of its last messages that the next may refer to
    cdef Py_ssize_t max_size            # of a message, inflated

    cdef readonly str answer            # the value of Sec-WebSocket-Extensions

    # Return a whole frame, RSV1 set; None: a plain one would be as short.
    cpdef bytes frame(self, bytes payload, bint is_binary)
    # Return the message in data, which is borrowed. `window`: from `slide`, None at first.
    cdef bytes inflate(
        self, const uint8_t* data, Py_ssize_t size, bint is_text, bytes window
    )
    # Return the bytes that the next message may refer to: the end of the last ones.
    cpdef bytes slide(self, bytes window, bytes message)


# -- accept --

# Return the 101 of a handshake; key: 24 bytes, as request_reader found them.
cpdef bytes switch(bytes key)
