# cython: language_level=3
"""Bytes to HTTP/1.1 requests: the end of the head, its syntax, and the body's framing.

The caller passes a function, `judge`, that checks the syntax of a head. A GET of plain ASCII
without a body needs no judge. The reader itself decides how long the body is, and which host and
path are meant, so the bytes that follow are exactly the next request (RFC 9112). It refuses
anything that two readers could understand in two ways. It makes no object for a field. No socket,
loop, time, or route here.
"""

cimport cython
from cpython.bytearray cimport (
    PyByteArray_AS_STRING, PyByteArray_GET_SIZE, PyByteArray_Resize,
)
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcmp, memcpy

from chansock._fast.http.request cimport hex_digit

cdef extern from "http/fold.h":
    int differ "chansock_differ" (const char* a, const char* b, size_t size) noexcept nogil

cdef extern from "arpa/inet.h":
    const int AF_INET6
    int inet_pton(int family, const char* text, void* address) noexcept nogil

cdef enum:
    # RequestReader.part
    IN_HEAD
    IN_BODY
    IN_CHUNK_SIZE
    IN_CHUNK
    IN_CHUNK_END
    IN_TRAILER

    MAX_CHUNK_LINE = 1024           # size and extensions; real clients send less
    MAX_CHUNKS = 256                # in one call, so the caller can stop between two
    MAX_HEX_DIGITS = 12             # 2**48: far past any limit, far below an overflow
    MAX_HOST = 255                  # bytes of a name; the DNS has 253
    INET6_LENGTH = 46               # of an address as text, with the NUL behind it
    KEY_LENGTH = 24                 # 16 bytes in base64


@cython.final
cdef class RequestReader:
    """Reads the requests of one connection, one at a time.

    `judge(head)` returns 0 if the syntax of a head is right, else the status that refuses it. The
    reader refuses a broken rule with 400, a body past max_body with 413, an unknown Expect with
    417, a head, chunk extensions, or trailers past max_head bytes or max_fields fields with 431, a
    transfer coding other than chunked with 501, and a version other than 1.0 and 1.1 with 505.
    """

    def __cinit__(
        self, judge not None, Py_ssize_t max_head, Py_ssize_t max_fields, Py_ssize_t max_body
    ):
        self.judge = judge
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

    cdef Py_ssize_t held(self) noexcept:
        cdef Py_ssize_t size = 0
        if self.head is not None:
            size = PyBytes_GET_SIZE(self.head)
        if self.gathered is not None:
            size += PyByteArray_GET_SIZE(self.gathered)
        return size

    cdef int _feed_head(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t* used
    ) except -1:
        cdef Py_ssize_t start = 0
        cdef Py_ssize_t length
        cdef int found, status
        self.head = None
        if self.seen == 0:
            while start + 2 <= size and data[start] == 13 and data[start + 1] == 10:
                start += 2          # RFC 9112 section 2.2: empty lines before a request
            self.blank += start
            if self.blank > self.max_head:
                return self._refuse(431, f"expected at most {self.max_head} bytes of empty lines")
        used[0] = start
        length = self._find_end(data + start, min(size - start, self.max_head))
        if length < 0:
            return self._refuse(400, "expected an HTTP/1.1 request, lines ended by CR LF")
        if length == 0:
            if size - start > self.max_head:
                return self._refuse(431, f"expected at most {self.max_head} bytes of head")
            return MORE
        self.seen = self.blank = 0
        self.head = PyBytes_FromStringAndSize(<const char*>data + start, length)
        self.body = b""
        self.gathered = None
        self.wants_close = self.wants_continue = self.is_http_1_0 = False
        self.wants_websocket = False
        self.key = None
        found = self._scan(data + start, length)
        if found != REFUSED:
            status = 0 if self.is_plain else self.judge(self.head)
            if status:
                return self._refuse(status, "expected an HTTP/1.1 request")
            used[0] = start + length
        return found

    cdef Py_ssize_t _find_end(self, const uint8_t* data, Py_ssize_t size) noexcept:
        # Return the length of the head; 0: it is incomplete; -1: this can never become one. A fault
        # is found at its first byte, not at the time-out: TLS and SOCKS on this port, or lines that
        # end with LF or CR alone.
        cdef Py_ssize_t at = self.seen
        cdef Py_ssize_t stop
        cdef const uint8_t* cr
        if size and not (_is_letter(data[0]) or (size == 1 and data[0] == 13)):
            return -1
        while True:
            cr = <const uint8_t*>memchr(data + at, 13, size - at)
            stop = size if cr == NULL else cr - data
            if memchr(data + at, 10, stop - at) != NULL:
                return -1
            if stop + 1 >= size:
                break
            if data[stop + 1] != 10:
                return -1
            if stop + 3 < size and data[stop + 2] == 13 and data[stop + 3] == 10:
                return stop + 4
            if stop + 2 >= size or (stop + 3 == size and data[stop + 2] == 13):
                break
            at = stop + 2
        self.seen = stop
        return 0

    cdef int _scan(self, const uint8_t* head, Py_ssize_t size) except -1:
        # Read the request line, and the fields that frame a request.
        cdef const char* line = <const char*>head
        cdef const char* end = line + size - 2      # of the last field's line
        cdef const char* stop = <const char*>memchr(line, 13, size)
        cdef Seen seen
        cdef Py_ssize_t count = 0
        seen.length = -1
        seen.hosts = seen.codings = seen.versions = seen.keys = 0
        seen.is_get = size > 4 and memcmp(line, b"GET ", 4) == 0
        seen.wants_upgrade = seen.is_13 = False
        seen.key = NULL
        if self._request_line(line, stop - line) == REFUSED:
            return REFUSED
        # Checking the syntax of such a head costs nothing here. llhttp, which knows more methods,
        # bytes, and framings, makes a parser and an exception for each.
        self.is_plain = (
            seen.is_get and line[4] == c"/" and not self.is_http_1_0 and _is_ascii(head, size)
        )
        line = stop + 2
        while line < end:
            count += 1
            if count > self.max_fields:
                return self._refuse(431, f"expected at most {self.max_fields} fields")
            stop = <const char*>memchr(line, 13, end - line)
            if self._field(line, stop - line, &seen) == REFUSED:
                return REFUSED
            line = stop + 2
        if (
            self.wants_websocket and seen.wants_upgrade and seen.versions == 1 and seen.is_13
            and seen.keys == 1 and seen.key != NULL and seen.is_get and not self.is_http_1_0
            and seen.length <= 0 and seen.codings == 0
        ):
            self.key = PyBytes_FromStringAndSize(seen.key, KEY_LENGTH)
        if seen.hosts > 1 or (seen.hosts == 0 and not self.is_http_1_0):
            return self._refuse(400, f"expected one Host, got {seen.hosts}")
        if seen.codings:
            if seen.length >= 0 or self.is_http_1_0:
                # Two ways to find the end of the body allow a peer to smuggle requests.
                return self._refuse(400, "expected no Transfer-Encoding here")
            self.part = IN_CHUNK_SIZE
            self.gathered = bytearray()
            self.extra = self.trailers = 0
            return HEAD
        if seen.length <= 0:
            return REQUEST
        if seen.length > self.max_body:
            return self._refuse(413, f"expected at most {self.max_body} bytes of body")
        self.part = IN_BODY
        self.left = seen.length
        return HEAD

    cdef int _request_line(self, const char* line, Py_ssize_t size) except -1:
        # Read `GET /path?query HTTP/1.1` (RFC 9112 section 3).
        cdef const char* space = <const char*>memchr(line, c" ", size)
        cdef const char* version = line + size - 8
        cdef const char* target
        cdef Py_ssize_t length
        if space == NULL or space + 2 >= version or not _is_version(version - 1):
            return self._refuse(400, "expected a request line: GET /path HTTP/1.1")
        target = space + 1
        length = version - 1 - target
        if memchr(target, c" ", length) != NULL:
            return self._refuse(400, "expected two spaces in the request line")
        if version[5] != c"1" or version[7] not in b"01":
            return self._refuse(505, "expected HTTP/1.1")
        self.is_http_1_0 = version[7] == c"0"
        if space - line == 7 and memcmp(line, b"CONNECT", 7) == 0:
            return self._refuse(501, "expected no CONNECT: this is no proxy")
        if target[0] == c"*" and length == 1:
            if space - line == 7 and memcmp(line, b"OPTIONS", 7) == 0:
                return MORE
            return self._refuse(400, "expected a path, got *")
        return self._target(target, length)

    cdef int _target(self, const char* target, Py_ssize_t size) except -1:
        # Check a path, and the host before it if there is one (RFC 9112 section 3.2).
        cdef const char* end = target + size
        cdef const char* host = target
        cdef const char* at
        if target[0] != c"/":
            if size > 7 and differ(target, b"http://", 7) == 0:
                host += 7
            elif size > 8 and differ(target, b"https://", 8) == 0:
                host += 8
            else:
                return self._refuse(400, "expected a path as the target")
            target = host
            while target < end and target[0] not in b"/?":
                target += 1
            if not _is_host(host, target - host):
                return self._refuse(400, "expected a host, or host:port, in the target")
        at = target
        while at < end and at[0] != c"?":
            if at[0] == c"%" and (
                end - at < 3 or hex_digit(at[1]) < 0 or hex_digit(at[2]) < 0
                or (at[1] == c"0" and at[2] == c"0")
            ):
                return self._refuse(400, "expected %XX with two hex digits, not 00, in the path")
            at += 1
        if memchr(target, c"#", end - target) != NULL:
            return self._refuse(400, "expected no # in the target")
        return MORE

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
        self.is_plain = self.is_plain and _is_token(<const uint8_t*>line, length)
        if length == 4 and differ(line, b"host", 4) == 0:
            seen.hosts += 1
            if not _is_host(value, size):
                return self._refuse(400, "expected a host, or host:port, in Host")
        elif length == 14 and differ(line, b"content-length", 14) == 0:
            self.is_plain = False
            if seen.length >= 0:
                return self._refuse(400, "expected one Content-Length")
            seen.length = _decimal(value, size)
            if seen.length < 0:
                return self._refuse(400, "expected digits in Content-Length")
        elif length == 17 and differ(line, b"transfer-encoding", 17) == 0:
            self.is_plain = False
            seen.codings += 1
            if seen.codings > 1:
                return self._refuse(400, "expected one Transfer-Encoding")
            if size != 7 or differ(value, b"chunked", 7) != 0:
                return self._refuse(501, "expected no Transfer-Encoding but chunked")
        elif length == 10 and differ(line, b"connection", 10) == 0:
            self.wants_close |= _has_token(value, size, b"close", 5)
            seen.wants_upgrade |= _has_token(value, size, b"upgrade", 7)
        elif length == 7 and differ(line, b"upgrade", 7) == 0:
            self.wants_websocket |= _has_token(value, size, b"websocket", 9)
        elif length == 21 and differ(line, b"sec-websocket-version", 21) == 0:
            seen.versions += 1
            seen.is_13 = size == 2 and memcmp(value, b"13", 2) == 0
        elif length == 17 and differ(line, b"sec-websocket-key", 17) == 0:
            seen.keys += 1
            seen.key = value if _is_key(value, size) else NULL
        elif length == 6 and differ(line, b"expect", 6) == 0:
            if size != 12 or differ(value, b"100-continue", 12) != 0:
                return self._refuse(417, "expected no Expect but 100-continue")
            # RFC 9110 section 10.1.1: a client of 1.0 does not know status 100
            self.wants_continue = not self.is_http_1_0
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
        # Read chunks, and drop the trailers (RFC 9112 section 7.1).
        cdef Py_ssize_t at = 0
        cdef Py_ssize_t taken
        cdef const uint8_t* end
        cdef int _chunk
        for _chunk in range(MAX_CHUNKS):
            if self.part == IN_CHUNK:
                taken = min(size - at, self.left)
                self._gather(data + at, taken)
                self.left -= taken
                at += taken
                used[0] = at
                if self.left:
                    return MORE
                self.part = IN_CHUNK_END
            if self.part == IN_CHUNK_END:
                # Refuse at the first wrong byte, without waiting for the second.
                if (at < size and data[at] != 13) or (at + 1 < size and data[at + 1] != 10):
                    return self._refuse(400, "expected CR LF behind a chunk")
                if at + 2 > size:
                    return MORE
                at += 2
                used[0] = at
                self.part = IN_CHUNK_SIZE
            end = <const uint8_t*>memchr(data + at, 10, min(size - at, MAX_CHUNK_LINE))
            taken = min(size - at, MAX_CHUNK_LINE) if end == NULL else end - (data + at)
            # Check the first byte first, so the result does not depend on how many have arrived.
            if self.part == IN_CHUNK_SIZE and taken and hex_digit(data[at]) < 0:
                return self._refuse(400, "expected the size of a chunk in hex")
            if not _is_line(data + at, taken, end == NULL):
                return self._refuse(400, "expected lines ended by CR LF in a chunked body")
            if end == NULL:
                if taken == MAX_CHUNK_LINE:
                    return self._refuse(431, "expected shorter lines in a chunked body")
                return MORE
            if self.part == IN_CHUNK_SIZE:
                if self._chunk_size(data + at, taken - 1) == REFUSED:
                    return REFUSED
            elif taken == 1:
                used[0] = at + 2
                return self._end()
            elif self._trailer(data + at, taken - 1) == REFUSED:
                return REFUSED
            if self.extra > self.max_head:
                return self._refuse(
                    431, f"expected at most {self.max_head} bytes of extensions and trailers"
                )
            at += taken + 1
            used[0] = at
        return MORE

    cdef int _chunk_size(self, const uint8_t* line, Py_ssize_t size) except -1:
        # Read `1a3f` or `1a3f;extension`.
        cdef Py_ssize_t value = 0
        cdef Py_ssize_t k = 0
        cdef int digit
        while k < size and k <= MAX_HEX_DIGITS:
            digit = hex_digit(line[k])
            if digit < 0:
                break
            value = value * 16 + digit
            k += 1
        if k == 0 or k > MAX_HEX_DIGITS or (k < size and line[k] != c";"):
            return self._refuse(400, "expected the size of a chunk in hex")
        if value > self.max_body - PyByteArray_GET_SIZE(self.gathered):
            return self._refuse(413, f"expected at most {self.max_body} bytes of body")
        self.extra += size - k
        self.left = value
        self.part = IN_CHUNK if value else IN_TRAILER
        return MORE

    cdef int _trailer(self, const uint8_t* line, Py_ssize_t size) except -1:
        # Check a field behind the last chunk.
        cdef const uint8_t* colon = <const uint8_t*>memchr(line, c":", size)
        self.extra += size + 2
        self.trailers += 1
        if self.trailers > self.max_fields:
            return self._refuse(431, f"expected at most {self.max_fields} trailers")
        if colon == NULL or not _is_token(line, colon - line):
            return self._refuse(400, "expected name: value in each trailer")
        return MORE

    cdef int _refuse(self, int status, str why) except -1:
        self.status = status
        self.why = why
        return REFUSED

    def read(self, bytes data not None, Py_ssize_t start=0):
        """Read data from start on, as far as possible; for tests.

        Return (what was found, bytes used): None if more bytes are needed, "head", a tuple
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


def is_host(bytes text not None):
    """Return whether this is `name`, `name:80`, or `[::1]:80`."""
    return _is_host(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef Py_ssize_t _decimal(const char* text, Py_ssize_t size) noexcept:
    # Read digits; -1 if there is anything else, or more than fit.
    cdef Py_ssize_t value = 0
    cdef Py_ssize_t k
    if not 0 < size <= 18:
        return -1
    for k in range(size):
        if not c"0" <= text[k] <= c"9":
            return -1
        value = value * 10 + (text[k] - c"0")
    return value


cdef inline bint _is_letter(uint8_t char) noexcept:
    return c"a" <= (char | 0x20) <= c"z"


cdef bint _is_token(const uint8_t* text, Py_ssize_t size) noexcept:
    # Return whether this may name a field (RFC 9110 section 5.6.2).
    cdef Py_ssize_t k
    for k in range(size):
        if not (_is_letter(text[k]) or text[k] in b"0123456789!#$%&'*+-.^_`|~"):
            return False
    return size > 0


cdef bint _is_ascii(const uint8_t* text, Py_ssize_t size) noexcept:
    # Return whether this is ASCII without controls, but for CR and LF.
    cdef Py_ssize_t k
    cdef int others = 0
    for k in range(size):   # no early exit, so the compiler checks 16 bytes at a time
        others |= (<uint8_t>(text[k] - 32) > 94) & (text[k] != 13) & (text[k] != 10)
    return others == 0


cdef bint _is_version(const char* text) noexcept:
    # Return whether this is ` HTTP/1.1`, with any two digits.
    return (
        memcmp(text, b" HTTP/", 6) == 0 and text[7] == c"."
        and c"0" <= text[6] <= c"9" and c"0" <= text[8] <= c"9"
    )


cdef bint _is_line(const uint8_t* line, Py_ssize_t size, bint is_open) noexcept:
    # Return whether this is a line with its CR, or may become one, with no control but tabs.
    cdef Py_ssize_t k
    for k in range(size):
        if (line[k] < 32 and line[k] != 9) or line[k] == 127:
            return k == size - 1 and line[k] == 13
    return is_open


cdef bint _is_host(const char* text, Py_ssize_t size) noexcept:
    # Return whether this is `name`, `name:80`, or `[::1]:80`. The rule is narrower than RFC 3986
    # section 3.2.2: no %-escapes, and no characters that real names lack, such as the comma, which
    # would make two names of one.
    cdef char[INET6_LENGTH] literal
    cdef char[16] address
    cdef Py_ssize_t at = 0
    cdef Py_ssize_t port = 0
    if size and text[0] == c"[":
        while at < size and text[at] != c"]":
            at += 1
        if at == size or at - 1 >= INET6_LENGTH:
            return False
        memcpy(literal, text + 1, at - 1)
        literal[at - 1] = 0
        if memchr(literal, 0, at - 1) != NULL or inet_pton(AF_INET6, literal, address) != 1:
            return False
        at += 1
    else:
        while at < size and (_is_letter(text[at]) or text[at] in b"0123456789-._~"):
            at += 1
        if not 0 < at <= MAX_HOST:
            return False
    if at == size:
        return True
    if text[at] != c":":
        return False
    size -= at + 1
    if size == 0:
        return True                 # `name:` is the default port
    port = _decimal(text + at + 1, size)
    return size <= 5 and 0 <= port <= 65535


cdef bint _has_token(
    const char* value, Py_ssize_t size, const char* token, Py_ssize_t length
) noexcept:
    # Return whether a list of tokens contains this one, in any case (RFC 9110 section 5.6.1).
    cdef const char* end = value + size
    cdef const char* stop
    cdef const char* last
    while value < end:
        stop = <const char*>memchr(value, c",", end - value)
        if stop == NULL:
            stop = end
        last = stop
        while value < last and value[0] in b" \t":
            value += 1
        while value < last and (last - 1)[0] in b" \t":
            last -= 1
        if last - value == length and differ(value, token, length) == 0:
            return True
        value = stop + 1
    return False


cdef bint _is_key(const char* text, Py_ssize_t size) noexcept:
    # Return whether this is base64 of 16 bytes (RFC 6455 section 4.1).
    cdef Py_ssize_t k
    if size != KEY_LENGTH or text[22] != c"=" or text[23] != c"=":
        return False
    for k in range(22):
        if not (_is_letter(text[k]) or c"0" <= text[k] <= c"9" or text[k] in b"+/"):
            return False
    return True
