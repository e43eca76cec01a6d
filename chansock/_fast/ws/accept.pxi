# A part of ws/frames: the answer to a WebSocket handshake, a 101 with the Sec-WebSocket-Accept of
# the key (RFC 6455 section 4.2.2). Nothing here decides whether a handshake gets this answer.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

cdef extern from "ws/sha1.h":
    void chansock_sha1(const uint8_t* data, size_t size, uint8_t* digest) noexcept

cdef enum:
    KEY_LENGTH = 24             # 16 bytes in base64
    GUID_LENGTH = 36
    ACCEPT_LENGTH = 28          # 20 bytes in base64

cdef const char* GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"    # RFC 6455 section 1.3
cdef const char* BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
cdef bytes BEFORE = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: "
)
cdef bytes BEHIND = b"\r\n\r\n"


cdef int _write_accept(const char* key, char* out) noexcept:
    cdef uint8_t[KEY_LENGTH + GUID_LENGTH] hashed
    cdef uint8_t[21] digest
    cdef uint32_t three
    cdef int k
    memcpy(hashed, key, KEY_LENGTH)
    memcpy(hashed + KEY_LENGTH, GUID, GUID_LENGTH)
    chansock_sha1(hashed, sizeof(hashed), digest)
    digest[20] = 0
    for k in range(0, 21, 3):
        three = <uint32_t>digest[k] << 16 | <uint32_t>digest[k + 1] << 8 | digest[k + 2]
        out[0] = BASE64[three >> 18]
        out[1] = BASE64[three >> 12 & 63]
        out[2] = BASE64[three >> 6 & 63]
        out[3] = BASE64[three & 63]
        out += 4
    (out - 1)[0] = c"="
    return 0


cdef _check_key(bytes key):
    if PyBytes_GET_SIZE(key) != KEY_LENGTH:
        raise ValueError(f"key: expected {KEY_LENGTH} bytes, got {len(key)}")


def accept_key(bytes key not None):
    """Return the Sec-WebSocket-Accept of a Sec-WebSocket-Key."""
    cdef char[ACCEPT_LENGTH] out
    _check_key(key)
    _write_accept(PyBytes_AS_STRING(key), out)
    return PyBytes_FromStringAndSize(out, ACCEPT_LENGTH)


cpdef bytes switch(bytes key):
    """Return the 101 that answers a Sec-WebSocket-Key."""
    cdef Py_ssize_t before = PyBytes_GET_SIZE(BEFORE), behind = PyBytes_GET_SIZE(BEHIND)
    cdef bytes answer
    cdef char* out
    _check_key(key)
    answer = PyBytes_FromStringAndSize(NULL, before + ACCEPT_LENGTH + behind)
    out = PyBytes_AS_STRING(answer)
    memcpy(out, PyBytes_AS_STRING(BEFORE), before)
    _write_accept(PyBytes_AS_STRING(key), out + before)
    memcpy(out + before + ACCEPT_LENGTH, PyBytes_AS_STRING(BEHIND), behind)
    return answer
