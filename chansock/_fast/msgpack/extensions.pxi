# A part of msgpack/reader: text, and those of Sente's extensions that hold no values themselves.
# All of their bytes have arrived.

import sys
from array import array
from datetime import timedelta

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.datetime cimport datetime_new, get_utc, import_datetime
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t

from chansock._fast.io.cpython_api cimport steal_ref
from chansock._fast.edn.reader cimport Source, fail, uuid_of
from chansock._fast.edn.writer cimport shown_value
from chansock._fast.msgpack.writer cimport (
    CACHED_KEY, CHARACTER, DOUBLES, FLOATS, INSTANT, INTS, SYMBOL, UUID_TEXT)

from chansock.values import Char, Symbol

cdef extern from "msgpack/msgpack.h":
    uint32_t chansock_four(const uint8_t* p) noexcept
    uint64_t chansock_eight(const uint8_t* p) noexcept

cdef extern from "Python.h":
    PyObject* decode "PyUnicode_DecodeUTF8"(
        const char* text, Py_ssize_t size, const char* errors) except NULL

import_datetime()

cdef object EPOCH = datetime_new(1970, 1, 1, 0, 0, 0, 0, get_utc(), 0)
cdef dict ARRAYS = {INTS: ("i", "int[]"), FLOATS: ("f", "float[]"), DOUBLES: ("d", "double[]")}


# Both raise EdnDecodeError.

cdef PyObject* decoded(Source* s, const uint8_t* p, Py_ssize_t size) except NULL:
    cdef Py_ssize_t at
    try:
        return decode(<const char*>p, size, NULL)
    except UnicodeDecodeError as error:
        at = error.start
    fail(s, p + at, f"expected UTF-8, got {p[at]:#04x}")


cdef object read_extension(
        Source* s, const uint8_t* at, int kind, const uint8_t* p, Py_ssize_t size, bint hashed):
    # The `size` bytes at p, of an extension that begins at `at`. `hashed`: the value must be
    # hashable.
    if kind == SYMBOL:
        return Symbol(steal_ref(decoded(s, p, size)))
    if kind == UUID_TEXT:
        text = steal_ref(decoded(s, p, size))
        value = uuid_of(text)
        if value is None:
            fail(s, at, f"expected a UUID, got {shown_value(text)}")
        return value
    if kind == INSTANT:
        return _instant(s, at, p, size)
    if kind == CHARACTER:
        text = steal_ref(decoded(s, p, size))
        if len(text) != 1 or ord(text) > 0xFFFF:
            fail(s, at, f"expected one UTF-16 unit in a character, got {shown_value(text)}")
        return Char(text)
    if kind == INTS or kind == FLOATS or kind == DOUBLES:
        return _numbers(s, at, kind, p, size, hashed)
    if kind == CACHED_KEY:
        fail(s, at, "expected a value, got a cached key, which stands as map key alone")
    fail(s, at, f"expected an extension of Sente's (-1 to 9), got {kind}")


cdef object _numbers(
        Source* s, const uint8_t* at, int kind, const uint8_t* p, Py_ssize_t size, bint hashed):
    code, name = ARRAYS[kind]
    values = array(code)
    if size % values.itemsize:
        fail(s, at, f"expected {values.itemsize} bytes for each number of {name}, got {size}")
    if hashed:
        fail(s, at, f"expected a key or member that can be hashed, got {name}")
    values.frombytes(PyBytes_FromStringAndSize(<const char*>p, size))
    if sys.byteorder == "little":
        values.byteswap()
    return values


cdef object _instant(Source* s, const uint8_t* at, const uint8_t* p, Py_ssize_t size):
    # MessagePack's three forms of a timestamp; Sente writes the last.
    cdef uint64_t nanos = 0, word
    cdef int64_t seconds = 0
    if size == 4:
        seconds = chansock_four(p)
    elif size == 8:
        word = chansock_eight(p)
        nanos = word >> 34
        seconds = <int64_t>(word & 0x3FFFFFFFFU)
    elif size == 12:
        nanos = chansock_four(p)
        seconds = <int64_t>chansock_eight(p + 4)
    else:
        fail(s, at, f"expected 4, 8 or 12 bytes in a timestamp, got {size}")
    if nanos > 999_999_999:
        fail(s, at, f"expected at most 999999999 nanoseconds, got {nanos}")
    if not -62135596800 <= seconds <= 253402300799:
        fail(s, at, f"expected a time in the years 1 to 9999, got {seconds} seconds from 1970")
    return EPOCH + timedelta(seconds=seconds, microseconds=nanos // 1000)
