# cython: language_level=3
"""WebSocket frames (RFC 6455): bytes to messages and control frames, and back.

The parser works on memory that it borrows, unmasks in place, and keeps nothing of an unfragmented
message. It serves both roles. No socket, no loop, no packet: the parser checks whether a text is
UTF-8, and does not know what a message holds. Its parts:

    deflate  permessage-deflate (RFC 7692)
    accept   the answer to a handshake
"""

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytearray cimport PyByteArray_AS_STRING, PyByteArray_GET_SIZE
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdlib cimport free, realloc
from libc.string cimport memcpy

from chansock.errors import FrameError

cdef extern from "ws/mask.h":
    const uint64_t HIGH_BITS "CHANSOCK_HIGH_BITS"
    uint64_t unmask "chansock_unmask" (
        uint8_t* data, Py_ssize_t size, const uint8_t* key, Py_ssize_t at
    ) noexcept nogil
    Py_ssize_t utf8_whole "chansock_utf8_whole" (
        const uint8_t* data, Py_ssize_t size
    ) noexcept nogil
    bint utf8_feed "chansock_utf8_feed" (
        Utf8* open, const uint8_t* data, Py_ssize_t size
    ) noexcept nogil

cdef enum:
    RSV = 0x70                  # the reserved bits, and the first of them
    RSV1 = 0x40
    MAX_CONTROL = 125           # payload of a control frame, RFC 6455 section 5.5
    MAX_REASON = 123            # the same without the code


cdef int _fail(str message, int code=1002) except -1:
    raise FrameError(message, code)


@cython.final
cdef class Parser:
    """Reads one peer's frames.

    `masked`: whether the peer must mask its frames (on a server) or must not (on a client).
    `max_size` limits the bytes of a message, in however many fragments; `max_empty` limits the
    empty fragments in succession, which no size limits. `may_deflate` allows RSV1 on the first
    frame of a message (RFC 7692). The parser does not check the text of such a message.

    Raises FrameError with the close code to send: 1002 for a broken rule, 1007 for a text or
    reason that is not UTF-8, 1008 for endless empty fragments, 1009 for a message that is too
    long. Each error comes as early as possible: for a text at its first wrong byte, for a long
    message at its head. After an error, the parser cannot be used again.
    """

    def __cinit__(
        self, Py_ssize_t max_size, bint masked=True, *, bint may_deflate=False,
        Py_ssize_t max_empty=100,
    ):
        self.max_size = max_size
        self.masked = masked
        self.may_deflate = may_deflate
        self.max_empty = max_empty

    def __dealloc__(self):
        free(self.store)

    cdef int next(self, uint8_t* data, Py_ssize_t size, Frame* frame) except -1:
        if self.is_lent:
            self._release()
        frame.kind = NEED_MORE
        frame.used = 0
        frame.whole = 0
        if size < 2:
            return 0
        cdef int first = data[0]
        cdef int second = data[1]
        cdef int opcode = first & 0x0F
        cdef bint fin = first & 0x80
        cdef Py_ssize_t length = second & 0x7F
        cdef Py_ssize_t head = 2
        cdef bint is_deflated = self.is_deflated if opcode == CONTINUATION else first & RSV1

        if first & RSV and not (
            first & RSV == RSV1 and self.may_deflate and CONTINUATION < opcode < CLOSE
        ):
            _fail(f"expected no reserved bits, got {first & RSV:#04x}")
        if (second >> 7) != self.masked:
            _fail("expected a masked frame" if self.masked else "expected an unmasked frame")
        if opcode >= CLOSE:
            if opcode > PONG:
                _fail(f"expected a known opcode, got {opcode}")
            if not fin:
                _fail(f"expected a whole control frame, got a fragment of opcode {opcode}")
            if length > MAX_CONTROL:
                _fail("expected at most 125 bytes in a control frame")
        elif opcode == CONTINUATION:
            if not self.opcode:
                _fail("expected a first fragment, got a continuation")
        elif opcode > BINARY:
            _fail(f"expected a known opcode, got {opcode}")
        elif self.opcode:
            _fail(f"expected a continuation, got opcode {opcode}")

        if length >= 126:
            head = 4 if length == 126 else 10
            if size < head:
                return 0
            length = _long_length(data)
        if opcode < CLOSE and length > self.max_size - self.stored:
            # Before a byte of it is kept. No overflow: both sides are at most max_size.
            _fail(f"expected at most {self.max_size} bytes in a message", 1009)
        if self.masked:
            head += 4
        frame.whole = head + length
        if size < head:
            return 0

        # Of the payload, `done` bytes were checked before; `here` bytes have arrived.
        cdef Py_ssize_t done = self.done
        cdef Py_ssize_t here = min(length, size - head)
        cdef bint is_text = (opcode or self.opcode) == TEXT
        cdef uint64_t seen = HIGH_BITS      # unknown: a text has to be checked
        if self.masked:
            seen = unmask(data + head + done, here - done, data + head - 4, done)
        if is_text and not is_deflated and (seen & HIGH_BITS or self.text.need):
            if not utf8_feed(&self.text, data + head + done, here - done) or (
                self.text.need and fin and here == length
            ):
                _fail("expected UTF-8 in a text message", 1007)
        if here < length:
            self.done = here
            return 0

        self.done = 0
        frame.used = head + length
        frame.data = data + head
        frame.size = length
        if opcode >= CLOSE:
            frame.kind = opcode
            return _check_close(frame) if opcode == CLOSE else 0
        frame.is_text = is_text
        frame.is_deflated = is_deflated
        if not fin or opcode == CONTINUATION:
            if opcode:
                self.opcode = <uint8_t>opcode
                self.is_deflated = is_deflated
            return self._join(frame, fin)
        frame.kind = MESSAGE
        return 0

    cdef int _join(self, Frame* frame, bint fin) except -1:
        # Add a fragment to the store; the last one completes the message.
        cdef Py_ssize_t total = self.stored + frame.size
        cdef Py_ssize_t capacity
        cdef void* grown
        if total > self.capacity:
            capacity = min(max(total, 2 * self.capacity, 512), max(self.max_size, total))
            grown = realloc(self.store, capacity)
            if grown is NULL:
                raise MemoryError
            self.store = <uint8_t*>grown
            self.capacity = capacity
        if frame.size:
            memcpy(self.store + self.stored, frame.data, frame.size)
        self.stored = total
        if not fin:
            self.empty = 0 if frame.size else self.empty + 1
            if self.empty > self.max_empty:
                _fail(f"expected at most {self.max_empty} empty fragments in succession", 1008)
            # The fragment is done with, and there is no message yet: the caller goes on reading.
            frame.kind = NEED_MORE
            frame.whole = 0
            return 0
        frame.kind = MESSAGE
        if total:
            frame.data = self.store
        frame.size = total
        self.is_lent = True
        return 0

    cdef int _release(self) noexcept:
        # Free the store: an idle connection owns no buffer.
        free(self.store)
        self.store = NULL
        self.stored = self.capacity = self.empty = 0
        self.opcode = 0
        self.is_deflated = self.is_lent = False
        return 0

    def step(self, data: bytearray, Py_ssize_t start=0):
        """Read one frame of data from start on; for tests and slow paths.

        Return (what it is, bytes used, whole size of an incomplete frame or 0). What it is:
        `("message", payload, is_text)` or `("deflated", payload, is_text)`, `("ping", payload)`,
        `("pong", payload)`, `("close", code, reason)`, or None. With None and bytes used, a
        fragment was kept; without, more bytes are needed. Data is unmasked in place: pass bytes
        that were not used again as they then are.
        """
        cdef Frame frame
        cdef Py_ssize_t size = PyByteArray_GET_SIZE(data)
        if not 0 <= start <= size:
            raise ValueError(f"start: expected 0 to {size}, got {start}")
        self.next(<uint8_t*>PyByteArray_AS_STRING(data) + start, size - start, &frame)
        what = None
        if frame.kind != NEED_MORE:
            payload = PyBytes_FromStringAndSize(<char*>frame.data, frame.size)
            if frame.kind == MESSAGE:
                name = "deflated" if frame.is_deflated else "message"
                what = (name, payload, bool(frame.is_text))
            elif frame.kind == CLOSE:
                what = ("close", frame.code, payload.decode())
            else:
                what = ("ping" if frame.kind == PING else "pong", payload)
        return what, frame.used, frame.whole


cdef Py_ssize_t _long_length(const uint8_t* data) except -1:
    # Read the 2 or 8 bytes of an extended length, which are there.
    cdef uint64_t length = 0
    cdef int k
    if data[1] & 0x7F == 126:
        length = (<uint64_t>data[2] << 8) | data[3]
        if length < 126:
            _fail(f"expected a length of {length} in its shortest form")
        return <Py_ssize_t>length
    for k in range(2, 10):
        length = (length << 8) | data[k]
    if length >> 63:
        _fail("expected a length below 2**63")
    if length < 65536:
        _fail(f"expected a length of {length} in its shortest form")
    return <Py_ssize_t>length


cdef int _check_close(Frame* frame) except -1:
    # Take the code off a close frame's payload; check both (RFC 6455 section 7.4).
    if frame.size == 0:
        frame.code = NO_STATUS
        return 0
    if frame.size == 1:
        _fail("expected a close code of 2 bytes, got 1")
    frame.code = (<int>frame.data[0] << 8) | frame.data[1]
    frame.data += 2
    frame.size -= 2
    if not is_close_code(frame.code):
        _fail(f"expected a close code that may be sent, got {frame.code}")
    if not is_utf8(frame.data, frame.size):
        _fail("expected UTF-8 in a close reason", 1007)
    return 0


cdef bint is_utf8(const uint8_t* data, Py_ssize_t size) noexcept nogil:
    return utf8_whole(data, size) == size


cpdef bint is_close_code(int code) noexcept:
    """Return whether a close frame may carry code: RFC 6455 section 7.4, and IANA's list."""
    if 3000 <= code <= 4999:
        return True
    return 1000 <= code <= 1014 and not 1004 <= code <= 1006


cdef Py_ssize_t write_head(uint8_t* out, int opcode, Py_ssize_t size) noexcept nogil:
    cdef int k
    out[0] = 0x80 | <uint8_t>opcode
    if size < 126:
        out[1] = <uint8_t>size
        return 2
    if size < 65536:
        out[1] = 126
        out[2] = <uint8_t>(size >> 8)
        out[3] = <uint8_t>(size & 0xFF)
        return 4
    out[1] = 127
    for k in range(8):
        out[2 + k] = <uint8_t>((<uint64_t>size >> (56 - 8 * k)) & 0xFF)
    return 10


cpdef bytes frame(int opcode, object payload, bytes mask=None, bint fin=True):
    """Return a frame of opcode and payload (any buffer), unmasked, as a server sends it.

    `mask`: the 4 bytes of a client's key. `fin=False`: a fragment that is not the last.
    """
    cdef uint8_t head[14]
    cdef Py_buffer view
    cdef bytes made
    cdef uint8_t* out
    cdef Py_ssize_t head_length
    if mask is not None and len(mask) != 4:
        raise ValueError(f"mask: expected 4 bytes, got {len(mask)}")
    PyObject_GetBuffer(payload, &view, PyBUF_SIMPLE)
    try:
        head_length = write_head(head, opcode, view.len)
        if not fin:
            head[0] &= 0x7F
        if mask is not None:
            head[1] |= 0x80
            memcpy(&head[head_length], PyBytes_AS_STRING(mask), 4)
            head_length += 4
        made = PyBytes_FromStringAndSize(NULL, head_length + view.len)
        out = <uint8_t*>PyBytes_AS_STRING(made)
        memcpy(out, head, head_length)
        if view.len:
            memcpy(out + head_length, view.buf, view.len)
            if mask is not None:
                unmask(out + head_length, view.len, &head[head_length - 4], 0)
    finally:
        PyBuffer_Release(&view)
    return made


cpdef bytes close_payload(int code, str reason=""):
    """Return the payload of a close frame, the reason cut at a character to 123 bytes.

    NO_STATUS (1005) makes b"". Raises ValueError if no close frame may carry the code.
    """
    if code == NO_STATUS:
        return b""
    if not is_close_code(code):
        raise ValueError(f"code: expected a close code that may be sent, got {code}")
    cdef bytes text = reason.encode("utf-8", "replace")
    if len(text) > MAX_REASON:
        text = text[:MAX_REASON].decode("utf-8", "ignore").encode()
    return bytes((code >> 8, code & 0xFF)) + text


include "deflate.pxi"
include "accept.pxi"
