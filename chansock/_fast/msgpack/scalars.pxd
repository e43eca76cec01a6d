# One value to its MessagePack: text, bytes, keywords, integers, extensions. No collection.

from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from chansock._fast.edn.names cimport LONGEST_TEXT, Known
from chansock._fast.edn.scalars cimport OutputBuffer

cdef extern from "msgpack/msgpack.h":
    uint8_t* put_extension_head "chansock_put_extension_head"(
        uint8_t* at, Py_ssize_t size, int kind) noexcept

cdef enum:
    KEYWORD = 0         # the extensions that Sente gives the format
    SYMBOL = 1
    CHARACTER = 2
    RATIO = 3
    SET = 4
    INTS = 5
    FLOATS = 6
    DOUBLES = 7
    CACHED_KEY = 8
    UUID_TEXT = 9
    INSTANT = -1        # the format's own

# A keyword that is known and short, within the margin.
cdef inline uint8_t* put_known(uint8_t* at, Known* entry) noexcept:
    cdef Py_ssize_t size = entry.size - 4       # without `, :` and the space
    at = put_extension_head(at, size, KEYWORD)
    memcpy(at, entry.text + 3, LONGEST_TEXT)
    return at + size

# As those of edn_spelling: at most at the output's end, then in the margin.
cdef uint8_t* write_string(OutputBuffer* output, uint8_t* at, object text) except NULL
cdef uint8_t* write_bytes(OutputBuffer* output, uint8_t* at, bytes data) except NULL
cdef uint8_t* write_extension(OutputBuffer* output, uint8_t* at, int kind, bytes data) except NULL
cdef uint8_t* write_text(OutputBuffer* output, uint8_t* at, int kind, object text) except NULL
# Of a str or a Keyword. It may have any name; only those that edn has are known.
cdef uint8_t* write_keyword(OutputBuffer* output, uint8_t* at, object name) except NULL
cdef uint8_t* write_character(OutputBuffer* output, uint8_t* at, object value) except NULL
# At most nine bytes; NULL: the integer has more than 64 bits.
cdef uint8_t* write_int(uint8_t* at, object value) except? NULL

# Raise if no length can announce so many.
cdef int check_size(Py_ssize_t size) except -1
