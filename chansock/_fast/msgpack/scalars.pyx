# One value to its MessagePack: text, bytes, keywords, integers, extensions. No collection.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from chansock._fast.io.cpython_api cimport (
    PyLong_AsLongLongAndOverflow, PyUnicode_DATA, PyUnicode_GET_LENGTH)
from chansock._fast.edn.names cimport Known, keyword_trouble, known
from chansock._fast.edn.scalars cimport CHSK_READY, OutputBuffer, room, shown_value

from chansock.errors import EncodeError

cdef extern from "msgpack/msgpack.h":
    uint8_t* chansock_put_integer(uint8_t* at, int64_t n) noexcept
    uint8_t* chansock_put_eight(uint8_t* at, uint64_t n) noexcept
    uint8_t* chansock_put_text_head(uint8_t* at, Py_ssize_t size) noexcept
    uint8_t* chansock_put_data_head(uint8_t* at, Py_ssize_t size, uint8_t code) noexcept
    uint8_t* chansock_put_extension_head(uint8_t* at, Py_ssize_t size, int kind) noexcept

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text) noexcept
    bytes PyUnicode_AsUTF8String(object text)
    unsigned long long PyLong_AsUnsignedLongLong(object value) except? -1

cdef int64_t MOST = 0xFFFFFFFF          # bytes or members that a length can announce


cdef bytes _utf8(object text):
    try:
        return PyUnicode_AsUTF8String(text)
    except UnicodeEncodeError as error:
        raise EncodeError(
            "expected text without lone surrogates, got "
            f"{shown_value(text[error.start:error.end])} in it") from None


cdef int check_size(Py_ssize_t size) except -1:
    if size > MOST:
        raise EncodeError(f"expected at most {MOST} bytes or members, got {size}")
    return 0


cdef uint8_t* write_string(OutputBuffer* output, uint8_t* at, object text) except NULL:
    cdef Py_ssize_t size
    cdef const void* data
    cdef bytes encoded
    CHSK_READY(text)
    if PyUnicode_IS_ASCII(text):
        size = PyUnicode_GET_LENGTH(<PyObject*>text)
        data = PyUnicode_DATA(<PyObject*>text)
    else:
        encoded = _utf8(text)
        size = PyBytes_GET_SIZE(encoded)
        data = PyBytes_AS_STRING(encoded)
    check_size(size)
    at = room(output, at, size)
    at = chansock_put_text_head(at, size)
    memcpy(at, data, <size_t>size)
    return at + size


cdef uint8_t* write_bytes(OutputBuffer* output, uint8_t* at, bytes data) except NULL:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    check_size(size)
    at = chansock_put_data_head(room(output, at, size), size, 0xC4)
    memcpy(at, PyBytes_AS_STRING(data), <size_t>size)
    return at + size


cdef uint8_t* write_extension(OutputBuffer* output, uint8_t* at, int kind, bytes data) except NULL:
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
    check_size(size)
    at = chansock_put_extension_head(room(output, at, size), size, <uint8_t>kind)
    memcpy(at, PyBytes_AS_STRING(data), <size_t>size)
    return at + size


cdef uint8_t* write_text(OutputBuffer* output, uint8_t* at, int kind, object text) except NULL:
    return write_extension(output, at, kind, _utf8(text))


cdef uint8_t* write_keyword(OutputBuffer* output, uint8_t* at, object name) except NULL:
    cdef Known* entry
    keyword_trouble(name)
    entry = known(<PyObject*>name)
    if entry is not NULL and entry.size:
        return put_known(at, entry)
    return write_text(output, at, 0, name)


cdef uint8_t* write_character(OutputBuffer* output, uint8_t* at, object value) except NULL:
    if len(value) != 1 or ord(value) > 0xFFFF:
        raise EncodeError(f"expected a Char of one UTF-16 unit, got {shown_value(value)}")
    return write_text(output, at, 2, value)


cdef uint8_t* write_int(uint8_t* at, object value) except? NULL:
    cdef int overflow = 0
    cdef int64_t whole = PyLong_AsLongLongAndOverflow(<PyObject*>value, &overflow)
    cdef uint64_t large
    if not overflow:
        return chansock_put_integer(at, whole)
    if overflow < 0 or int.bit_length(value) > 64:
        return NULL
    large = PyLong_AsUnsignedLongLong(value)
    at[0] = 0xCF
    return chansock_put_eight(at + 1, large)
