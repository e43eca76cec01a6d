# cython: language_level=3
"""Bytes to HTTP/1.1 requests: the end of the head, its syntax, and the body's framing.

Whether a head is well-formed is judged by a function that is handed; how long the body is,
is decided here and in one place, so that what follows is exactly the next request (RFC
9112). No object is made for a field. No socket, loop, time or route is known.
"""

cimport cython
from cpython.bytearray cimport (
    PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcpy

cdef extern from "string.h":
    void* memmem(const void* data, size_t size, const void* what, size_t length) noexcept nogil

cdef extern from "strings.h":
    int strncasecmp(const char* a, const char* b, size_t size) noexcept nogil

cdef enum:
    # RequestReader.part
    IN_HEAD
    IN_BODY
    IN_CHUNK_SIZE
    IN_CHUNK
    IN_CHUNK_END
    IN_TRAILER

    MAX_CHUNK_LINE = 1024           # size and extensions; nobody sends more
    MAX_HEX_DIGITS = 12             # 2**48: far past any limit, far below an overflow


@cython.final
cdef class RequestReader:
    """Reads the requests of one connection, one at a time.

    `is_head(head)` judges the syntax of a head. Refuses with 400 what breaks a rule, 413 a
    body past max_body, 417 an unknown Expect, 431 a head past max_head bytes or max_fields
    fields, 501 a transfer coding other than chunked, 505 a version other than 1.0 and 1.1.
    """

    def __cinit__(
        self, is_head not None, Py_ssize_t max_head, Py_ssize_t max_fields, Py_ssize_t max_body
    ):
        self.is_head = is_head
        self.max_head = max_head
        self.max_fields = max_fields
        self.max_body = max_body

    cdef int feed(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t* used) except -1:
        cdef Py_ssize_t taken
        used[0] = 0
        if self.part == IN_HEAD:
            return self._feed_head(data, size, used)
        if self.part != IN_BODY:
            return self._feed_chunked(data, size, used)
        taken = min(size, self.left)
        used[0] = taken
        self.left -= taken
        if self.gathered is None and self.left == 0:
            # The usual case: all of it came in one read, one copy makes the body.
            self.body = PyBytes_FromStringAndSize(<const char*>data, taken)
            self.part = IN_HEAD
            return REQUEST
        self._gather(data, taken)
        if self.left:
            return MORE
        return self._end()

    cdef int _feed_head(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t* used
    ) except -1:
        cdef Py_ssize_t start = 0
        cdef Py_ssize_t length
        cdef const uint8_t* end
        cdef int found
        while start + 2 <= size and data[start] == 13 and data[start + 1] == 10:
            start += 2              # RFC 9112 section 2.2: empty lines before a request
        used[0] = start
        self.head = None
        end = <const uint8_t*>memmem(data + start, size - start, b"\r\n\r\n", 4)
        length = size - start if end == NULL else end - (data + start) + 4
        if length > self.max_head:
            return self._refuse(431, f"expected at most {self.max_head} bytes of head")
        if end == NULL:
            return MORE
        self.head = PyBytes_FromStringAndSize(<const char*>data + start, length)
        self.body = b""
        self.gathered = None
        self.wants_close = self.wants_continue = self.is_http_1_0 = False
        if not self.is_head(self.head):
            return self._refuse(400, "expected an HTTP/1.1 request")
        found = self._scan(data + start, length)
        if found != REFUSED:
            used[0] = start + length
        return found

    cdef int _scan(self, const uint8_t* head, Py_ssize_t size) except -1:
        """Look at the version and at the fields that frame a request."""
        cdef const char* line = <const char*>head
        cdef const char* end = line + size - 2      # of the last field's line
        cdef const char* stop = <const char*>memmem(line, size, b"\r\n", 2)
        cdef Seen seen
        cdef Py_ssize_t count = 0
        seen.length = -1
        seen.hosts = 0
        seen.is_chunked = False
        if stop - line < 9 or strncasecmp(stop - 9, b" HTTP/1.", 8) != 0:
            return self._refuse(505, "expected HTTP/1.1")
        self.is_http_1_0 = (stop - 1)[0] == c"0"
        line = stop + 2
        while line < end:
            count += 1
            if count > self.max_fields:
                return self._refuse(431, f"expected at most {self.max_fields} fields")
            stop = <const char*>memmem(line, end - line, b"\r\n", 2)
            if self._field(line, stop - line, &seen) == REFUSED:
                return REFUSED
            line = stop + 2
        if seen.hosts > 1 or (seen.hosts == 0 and not self.is_http_1_0):
            return self._refuse(400, f"expected one Host, got {seen.hosts}")
        if seen.is_chunked:
            if seen.length >= 0 or self.is_http_1_0:
                # Two readings of where the body ends are how requests are smuggled.
                return self._refuse(400, "expected no Transfer-Encoding here")
            self.part = IN_CHUNK_SIZE
            self.gathered = bytearray()
            self.trailer_bytes = 0
            return HEAD
        if seen.length <= 0:
            return REQUEST
        if seen.length > self.max_body:
            return self._refuse(413, f"expected at most {self.max_body} bytes of body")
        self.part = IN_BODY
        self.left = seen.length
        return HEAD

    cdef int _field(self, const char* line, Py_ssize_t size, Seen* seen) except -1:
        cdef const char* colon = <const char*>memchr(line, c":", size)
        cdef const char* value
        cdef Py_ssize_t length
        if colon == NULL or colon == line or line[0] in b" \t" or (colon - 1)[0] in b" \t":
            return self._refuse(400, "expected name: value in each line of the head")
        value = colon + 1
        size -= value - line
        while size and value[0] in b" \t":
            value += 1
            size -= 1
        while size and value[size - 1] in b" \t":
            size -= 1
        length = colon - line
        if length == 4 and strncasecmp(line, b"host", 4) == 0:
            seen.hosts += 1
        elif length == 14 and strncasecmp(line, b"content-length", 14) == 0:
            if seen.length >= 0:
                return self._refuse(400, "expected one Content-Length")
            seen.length = _decimal(value, size)
            if seen.length < 0:
                return self._refuse(400, "expected digits in Content-Length")
        elif length == 17 and strncasecmp(line, b"transfer-encoding", 17) == 0:
            if seen.is_chunked or size != 7 or strncasecmp(value, b"chunked", 7) != 0:
                return self._refuse(501, "expected no Transfer-Encoding but chunked")
            seen.is_chunked = True
        elif length == 10 and strncasecmp(line, b"connection", 10) == 0:
            self.wants_close |= _has_close(value, size)
        elif length == 6 and strncasecmp(line, b"expect", 6) == 0:
            if size != 12 or strncasecmp(value, b"100-continue", 12) != 0:
                return self._refuse(417, "expected no Expect but 100-continue")
            self.wants_continue = True
        return MORE

    cdef int _gather(self, const uint8_t* data, Py_ssize_t size) except -1:
        cdef Py_ssize_t before
        if self.gathered is None:
            self.gathered = bytearray()
        before = PyByteArray_GET_SIZE(self.gathered)
        PyByteArray_Resize(self.gathered, before + size)
        memcpy(PyByteArray_AS_STRING(self.gathered) + before, data, size)
        return 0

    cdef int _end(self) except -1:
        self.body = bytes(self.gathered)
        self.gathered = None
        self.part = IN_HEAD
        return REQUEST

    cdef int _feed_chunked(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t* used
    ) except -1:
        """Take chunks, and the trailers, which nobody reads (RFC 9112 section 7.1)."""
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t taken
        cdef const uint8_t* end
        while True:
            if self.part == IN_CHUNK:
                taken = min(size - at, self.left)
                self._gather(data + at, taken)
                self.left -= taken
                at += taken
                used[0] = at
                if self.left:
                    return MORE
                self.part = IN_CHUNK_END
            end = <const uint8_t*>memchr(data + at, c"\n", size - at)
            if end == NULL:
                if size - at > MAX_CHUNK_LINE:
                    return self._refuse(400, "expected a shorter line in a chunked body")
                return MORE
            taken = end - (data + at)               # the line with its CR
            if taken == 0 or (end - 1)[0] != c"\r" or taken > MAX_CHUNK_LINE:
                return self._refuse(400, "expected lines ended by CR LF in a chunked body")
            if self.part == IN_CHUNK_SIZE:
                if self._chunk_size(data + at, taken - 1) == REFUSED:
                    return REFUSED
            elif self.part == IN_CHUNK_END:
                if taken != 1:
                    return self._refuse(400, "expected CR LF behind a chunk")
                self.part = IN_CHUNK_SIZE
            elif taken == 1:
                used[0] = at + 2
                return self._end()
            else:
                self.trailer_bytes += taken
                if self.trailer_bytes > self.max_head:
                    return self._refuse(431, f"expected at most {self.max_head} bytes of trailers")
            at += taken + 1
            used[0] = at

    cdef int _chunk_size(self, const uint8_t* line, Py_ssize_t size) except -1:
        """Read `1a3f` or `1a3f;extension`."""
        cdef Py_ssize_t value = 0
        cdef Py_ssize_t k = 0
        cdef int digit
        while k < size and k <= MAX_HEX_DIGITS:
            digit = _hex(line[k])
            if digit < 0:
                break
            value = value * 16 + digit
            k += 1
        if k == 0 or k > MAX_HEX_DIGITS or (k < size and line[k] not in b"; \t"):
            return self._refuse(400, "expected the size of a chunk in hex")
        if value > self.max_body - PyByteArray_GET_SIZE(self.gathered):
            return self._refuse(413, f"expected at most {self.max_body} bytes of body")
        self.left = value
        self.part = IN_CHUNK if value else IN_TRAILER
        return MORE

    cdef int _refuse(self, int status, str why) except -1:
        self.status = status
        self.why = why
        return REFUSED

    def read(self, bytes data not None, Py_ssize_t start=0):
        """Take what can be taken of data from start on; for tests.

        Gives (what was found, bytes used): None where more is needed, "head", a tuple
        (head, body) of a whole request, or (status, why) of a refusal.
        """
        cdef Py_ssize_t used
        cdef const uint8_t* memory = data
        if not 0 <= start <= len(data):
            raise ValueError(f"start: expected 0 to {len(data)}, got {start}")
        found = self.feed(memory + start, len(data) - start, &used)
        if found == REQUEST:
            return (self.head, self.body), used
        if found == REFUSED:
            return (self.status, self.why), used
        return "head" if found == HEAD else None, used


cpdef bytes unquote_form(bytes text):
    """Decode a value of a form: `+` is a space, `%41` is A, a broken escape stays as it is.

    For the one value that may be long; the standard library takes 0.3 s for a megabyte.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef const uint8_t* end = at + size
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(result)
    cdef uint8_t* out = start
    while at < end:
        if at[0] == c"%" and end - at > 2 and _hex(at[1]) >= 0 and _hex(at[2]) >= 0:
            out[0] = <uint8_t>(_hex(at[1]) << 4 | _hex(at[2]))
            at += 3
        else:
            out[0] = c" " if at[0] == c"+" else at[0]
            at += 1
        out += 1
    return result[:out - start]


cdef Py_ssize_t _decimal(const char* text, Py_ssize_t size) noexcept:
    """Read digits; -1 if there is anything else, or more than fit."""
    cdef Py_ssize_t value = 0
    cdef Py_ssize_t k
    if not 0 < size <= 18:
        return -1
    for k in range(size):
        if not c"0" <= text[k] <= c"9":
            return -1
        value = value * 10 + (text[k] - c"0")
    return value


cdef int _hex(uint8_t char) noexcept:
    if c"0" <= char <= c"9":
        return char - c"0"
    char |= 0x20
    return char - c"a" + 10 if c"a" <= char <= c"f" else -1


cdef bint _has_close(const char* value, Py_ssize_t size) noexcept:
    """Tell whether `close` stands in a list of tokens."""
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t end
    while at < size:
        while at < size and value[at] in b" \t,":
            at += 1
        end = at
        while end < size and value[end] not in b" \t,":
            end += 1
        if end - at == 5 and strncasecmp(value + at, b"close", 5) == 0:
            return True
        at = end
    return False
