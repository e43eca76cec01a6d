# Bytes to one HTTP/1.1 request after another: head, then body. No socket, no loop, no route.

from libc.stdint cimport uint8_t


cdef enum:
    # What feed found
    MORE = 0                        # the rest has to come first
    HEAD = 1                        # a head whose body is still to come
    REQUEST = 2                     # a whole request
    REFUSED = 3                     # `status` and `why`; the connection cannot go on


cdef class RequestReader:
    # Handed: the judge of a head's syntax, and limits
    cdef object judge
    cdef Py_ssize_t max_head
    cdef Py_ssize_t max_fields
    cdef Py_ssize_t max_body

    # The request under way
    cdef Py_ssize_t blank           # bytes of empty lines before it
    cdef Py_ssize_t seen            # bytes of its head that were searched for the end
    cdef bytes head                 # None: its head is not whole
    cdef bytes body
    cdef bint is_plain              # its syntax leaves nothing to the judge
    cdef bint is_http_1_0
    cdef bint wants_close
    cdef bint wants_continue        # Expect: 100-continue
    cdef readonly bint wants_websocket  # Upgrade: websocket, rightly or not
    cdef readonly bytes key         # Sec-WebSocket-Key of a faultless handshake; else None

    # How its body is framed, and how far it is
    cdef int part
    cdef Py_ssize_t left            # bytes to come of the body, or of the chunk
    cdef bytearray gathered
    cdef Py_ssize_t extra           # bytes of chunk extensions and trailers
    cdef Py_ssize_t trailers

    # Why it was refused
    cdef int status
    cdef str why

    # Take what can be taken of data; says in `used` how much. Called again with the rest.
    cdef int feed(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t* used) except -1
    cdef Py_ssize_t held(self) noexcept     # bytes of what is not whole yet
    cdef int _feed_head(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t* used) except -1
    cdef Py_ssize_t _find_end(self, const uint8_t* data, Py_ssize_t size) noexcept
    cdef int _scan(self, const uint8_t* head, Py_ssize_t size) except -1
    cdef int _request_line(self, const char* line, Py_ssize_t size) except -1
    cdef int _target(self, const char* target, Py_ssize_t size) except -1
    cdef int _field(self, const char* line, Py_ssize_t size, Seen* seen) except -1
    cdef int _gather(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int _end(self) except -1
    cdef int _feed_chunked(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t* used
    ) except -1
    cdef int _chunk_size(self, const uint8_t* line, Py_ssize_t size) except -1
    cdef int _trailer(self, const uint8_t* line, Py_ssize_t size) except -1
    cdef int _refuse(self, int status, str why) except -1


cdef struct Seen:
    # What the fields of one head say of its framing
    Py_ssize_t length               # Content-Length; -1: none
    int hosts
    int codings                     # fields of Transfer-Encoding, chunked alone

    # and of a WebSocket handshake
    bint is_get
    bint wants_upgrade              # in Connection
    int versions                    # fields of Sec-WebSocket-Version
    bint is_13
    int keys                        # fields of Sec-WebSocket-Key
    const char* key                 # 16 bytes in base64, or NULL
