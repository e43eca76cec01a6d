# RFC 6455 frames: bytes to messages and control frames, and back. No socket, no loop.

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
    int code


cdef class Parser:
    # Role and limit
    cdef Py_ssize_t max_size        # of one message, joined
    cdef bint masked                # whether the peer must mask: true on a server

    # The message that comes in fragments, if one does; owned, malloc
    cdef uint8_t* store
    cdef Py_ssize_t stored
    cdef Py_ssize_t capacity
    cdef Py_ssize_t checked         # of a text: the prefix known to be whole characters
    cdef uint8_t opcode             # TEXT or BINARY; 0: no message is open
    cdef bint is_handed             # the store was given out: the next call frees it

    # The next thing in data. 0, or -1 with FrameError, after which the parser is spent.
    # Unmasks in place, each frame once and only when it is there as a whole.
    cdef int next(self, uint8_t* data, Py_ssize_t size, Frame* frame) except -1
    cdef int _join(self, Frame* frame, uint64_t seen, bint fin) except -1
    cdef int _release(self) noexcept


# Bytes that write_head needs for a payload of this size: 2, 4 or 10.
cdef inline Py_ssize_t head_size(Py_ssize_t size) noexcept nogil:
    return 2 if size < 126 else 4 if size < 65536 else 10

# Write the head of an unmasked frame with FIN; gives its size.
cdef Py_ssize_t write_head(uint8_t* out, int opcode, Py_ssize_t size) noexcept nogil

cpdef bytes frame(int opcode, object payload, bytes mask=*, bint fin=*)
cpdef bint is_close_code(int code) noexcept
cpdef bytes close_payload(int code, str reason=*)
