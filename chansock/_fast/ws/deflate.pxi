# A part of ws/frames: permessage-deflate (RFC 7692), a message to a smaller frame, and back. No
# negotiation.
#
# CPython's own zlib does the work, so a build needs no header and a wheel no library. A call of it
# costs a microsecond more than a call in C would; the compression takes five microseconds and more.
# No (de)compressor outlives its message, so an idle connection keeps at most the window that its
# peer refers to.

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from zlib import DEFLATED as _DEFLATED, Z_SYNC_FLUSH as _SYNC_FLUSH
from zlib import compressobj, decompressobj
from zlib import error as ZlibError

from chansock.errors import FrameError

cdef enum:
    CUT = 4                     # bytes that a sender takes off the end: 00 00 ff ff
    MAX_BITS = 15               # no peer's window is larger
    PIECE = 65536               # bytes to inflate, and inflated, at a time: a bomb costs little
    MAX_STREAMS = 16            # each costs a new inflater, and two bytes begin another

# The bytes that the sender took off, and behind them an empty last block: zlib then shows by `eof`
# that the message ended where a block did.
cdef bytes END = b"\x00\x00\xff\xff\x03\x00"


@cython.final
cdef class Deflate:
    """Deflates and inflates messages as a client and the server agreed.

    `window_bits`, `level`, `memory_level`, and `threshold` are for messages that we send. A
    message that arrives may be `max_size` bytes long when inflated, and may refer to the last
    `kept` bytes before it. `answer` is the value of Sec-WebSocket-Extensions in the handshake.
    """

    def __cinit__(
        self, *, int window_bits, int level, int memory_level, Py_ssize_t threshold,
        Py_ssize_t kept, Py_ssize_t max_size, str answer not None
    ):
        self.window_bits = window_bits
        self.level = level
        self.memory_level = memory_level
        self.threshold = threshold
        self.kept = kept
        self.max_size = max_size
        self.answer = answer

    cpdef bytes frame(self, bytes payload, bint is_binary):
        """Return the frame of a deflated message; None: a plain one would be as short."""
        cdef uint8_t head[10]
        cdef Py_ssize_t head_size, first_size, size
        cdef bytes first, last, made
        cdef char* out
        deflater = compressobj(self.level, _DEFLATED, -self.window_bits, self.memory_level)
        first = deflater.compress(payload)
        last = deflater.flush(_SYNC_FLUSH)
        first_size = len(first)
        size = first_size + len(last) - CUT
        if size >= len(payload):
            return None
        head_size = write_head(head, BINARY if is_binary else TEXT, size)
        head[0] |= RSV1
        made = PyBytes_FromStringAndSize(NULL, head_size + size)
        out = PyBytes_AS_STRING(made)
        memcpy(out, head, head_size)
        memcpy(out + head_size, PyBytes_AS_STRING(first), first_size)
        memcpy(out + head_size + first_size, PyBytes_AS_STRING(last), size - first_size)
        return made

    cdef bytes inflate(
        self, const uint8_t* data, Py_ssize_t size, bint is_text, bytes window
    ):
        cdef list pieces = []
        cdef bytes message, given = b""
        cdef Py_ssize_t total = 0, at = 0, room
        cdef int streams = 1
        cdef bint is_whole = False, is_full = False
        inflater = _inflater(window)
        while not (is_whole and inflater.eof and not given):
            if inflater.eof:
                # A block with BFINAL ended the stream; another begins (section 7.2.3.4).
                streams += 1
                if streams > MAX_STREAMS:
                    raise FrameError(
                        f"expected at most {MAX_STREAMS} final blocks in a message", 1007
                    )
                inflater = _inflater(_end_of(window, b"".join(pieces), 1 << MAX_BITS))
            if not given and not is_full:
                if is_whole:
                    raise FrameError("expected a deflated message to end with a block", 1007)
                given = PyBytes_FromStringAndSize(<const char*>data + at, min(size - at, PIECE))
                at += len(given)
                is_whole = at == size
                if is_whole:
                    given += END
            try:
                room = min(PIECE, self.max_size + 1 - total)
                message = inflater.decompress(given, room)
            except ZlibError as error:
                raise FrameError(f"expected a deflated message: {error}", 1007) from None
            given = inflater.unused_data if inflater.eof else inflater.unconsumed_tail
            is_full = len(message) == room and not inflater.eof
            total += len(message)
            if total > self.max_size:
                raise FrameError(f"expected at most {self.max_size} bytes in a message", 1009)
            pieces.append(message)
        message = b"".join(pieces) if len(pieces) > 1 else pieces[0]
        if is_text and not is_utf8(
            <const uint8_t*>PyBytes_AS_STRING(message), len(message)
        ):
            raise FrameError("expected UTF-8 in a text message", 1007)
        return message

    cpdef bytes slide(self, bytes window, bytes message):
        """Return the bytes that the next message may refer to; None: nothing."""
        return _end_of(window, message, self.kept) if self.kept else None

    def read(self, bytes payload not None, bint is_text=True, bytes window=None):
        """Inflate one message; for tests and slow paths.

        Raises FrameError: 1007 if payload is not a deflated message, or if a text is not UTF-8;
        1009 past max_size, of which at most one more byte is inflated.
        """
        return self.inflate(
            <const uint8_t*>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), is_text, window
        )


cdef object _inflater(bytes window):
    # The widest window, whatever the two sides agreed: zlib rounds one of 8 bits up.
    return decompressobj(-MAX_BITS, window or b"")


cdef bytes _end_of(bytes before, bytes after, Py_ssize_t size):
    # Return the last `size` bytes of the two.
    if before is not None and len(after) < size:
        after = before + after
    return after if len(after) <= size else after[len(after) - size:]
