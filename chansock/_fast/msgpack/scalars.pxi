# A part of msgpack/writer: one value to its bytes: text, bytes, keywords, integers, extensions. No
# collection.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from chansock._fast.io.cpython_api cimport (
    PyLong_AsLongLongAndOverflow, PyUnicode_DATA, PyUnicode_GET_LENGTH, is_ascii, make_ready)
from chansock._fast.edn.writer cimport (
    LONGEST_TEXT, Known, OutputBuffer, keyword_trouble, known, room, shown_value)

from chansock.errors import EncodeError

cdef extern from "msgpack/msgpack.h":
    uint8_t* put_int "chansock_put_integer"(uint8_t* at, int64_t n) noexcept
    uint8_t* put_eight "chansock_put_eight"(uint8_t* at, uint64_t n) noexcept
    uint8_t* put_text_head "chansock_put_text_head"(uint8_t* at, Py_ssize_t size) noexcept
    uint8_t* put_data_head "chansock_put_data_head"(
        uint8_t* at, Py_ssize_t size, uint8_t code) noexcept
    uint8_t* put_extension_head "chansock_put_extension_head"(
        uint8_t* at, Py_ssize_t size, int kind) noexcept

cdef extern from "Python.h":
    bytes PyUnicode_AsUTF8String(object text)
    unsigned long long PyLong_AsUnsignedLongLong(object value) except? -1

cdef int64_t MOST = 0xFFFFFFFF          # bytes or members that a length can announce


# All of these put the value at `at`, which is at most at the output's end, and return the place
# behind it, which is then in the margin. They raise EncodeError if MessagePack has no such value.

cdef bytes _utf8(object text):
    try:
        return PyUnicode_AsUTF8String(text)
    except UnicodeEncodeError as error:
        raise EncodeError(
            "expected text without lone surrogates, got "
            f"{shown_value(text[error.start:error.end])} in it") from None


cdef int check_size(Py_ssize_t size) except -1:
    # Raise if no length can announce so many.
    if size > MOST:
        raise EncodeError(f"expected at most {MOST} bytes or members, got {size}")
    return 0


cdef uint8_t* write_string(OutputBuffer* output, uint8_t* at, object text) except NULL:
    cdef Py_ssize_t size
    cdef const void* data
    cdef bytes encoded
    make_ready(text)
    if is_ascii(<PyObject*>text):
        size = PyUnicode_GET_LENGTH(<PyObject*>text)
        data = PyUnicode_DATA(<PyObject*>text)
    else:
        encoded = _utf8(text)
        size = PyBytes_GET_SIZE(encoded)
        data = PyBytes_AS_STRING(encoded)
    check_size(size)
    at = room(output, at, size)
    at = put_text_head(at, size)
    memcpy(at, data, <size_t>size)
    return at + size


cdef uint8_t* write_bytes(OutputBuffer* output, uint8_t* at, bytes data) except NULL:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    check_size(size)
    at = put_data_head(room(output, at, size), size, 0xC4)
    memcpy(at, PyBytes_AS_STRING(data), <size_t>size)
    return at + size


cdef uint8_t* write_extension(OutputBuffer* output, uint8_t* at, int kind, bytes data) except NULL:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    check_size(size)
    at = put_extension_head(room(output, at, size), size, <uint8_t>kind)
    memcpy(at, PyBytes_AS_STRING(data), <size_t>size)
    return at + size


cdef uint8_t* write_text(OutputBuffer* output, uint8_t* at, int kind, object text) except NULL:
    return write_extension(output, at, kind, _utf8(text))


cdef inline uint8_t* put_known(uint8_t* at, Known* entry) noexcept:
    # A keyword that is known and short, within the margin.
    cdef Py_ssize_t size = entry.size - 4       # without `, :` and the space
    at = put_extension_head(at, size, KEYWORD)
    memcpy(at, entry.text + 3, LONGEST_TEXT)
    return at + size


cdef uint8_t* write_keyword(OutputBuffer* output, uint8_t* at, object name) except NULL:
    # A str or a Keyword, of any name; only names that edn has become known.
    cdef Known* entry
    keyword_trouble(name)
    entry = known(<PyObject*>name)
    if entry is not NULL and entry.size:
        return put_known(at, entry)
    return write_text(output, at, KEYWORD, name)


cdef uint8_t* write_character(OutputBuffer* output, uint8_t* at, object value) except NULL:
    if len(value) != 1 or ord(value) > 0xFFFF:
        raise EncodeError(f"expected a Char of one UTF-16 unit, got {shown_value(value)}")
    return write_text(output, at, CHARACTER, value)


cdef uint8_t* write_int(uint8_t* at, object value) except? NULL:
    # At most nine bytes; NULL: the integer has more than 64 bits.
    cdef int overflow = 0
    cdef int64_t whole = PyLong_AsLongLongAndOverflow(<PyObject*>value, &overflow)
    cdef uint64_t large
    if not overflow:
        return put_int(at, whole)
    if overflow < 0 or int.bit_length(value) > 64:
        return NULL
    large = PyLong_AsUnsignedLongLong(value)
    at[0] = 0xCF
    return put_eight(at + 1, large)
