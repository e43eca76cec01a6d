# A part of edn/writer: the output buffer, and the edn spelling of one value as Clojure's pr-str
# spells it: strings, characters, numbers, #inst, #uuid. No collection, no name.

import sys
from uuid import UUID

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.datetime cimport (
    datetime_day, datetime_hour, datetime_microsecond, datetime_minute, datetime_month,
    datetime_second, datetime_year, import_datetime)
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from chansock._fast.io.cpython_api cimport (
    PyUnicode_AsUTF8AndSize, PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII,
    PyUnicode_KIND, PyUnicode_READ, is_ascii, make_ready, new_ref, steal_ref, xdecref)

from chansock.errors import EncodeError

cdef extern from "edn/digits.h":
    uint8_t* chansock_put_uint(uint8_t* at, uint64_t n) noexcept

cdef extern from "edn/quote.h":
    uint8_t* chansock_escape(uint8_t* at, const uint8_t* data, Py_ssize_t size) noexcept
    uint8_t* chansock_escape_wide(
        uint8_t* at, const void* data, int width, Py_ssize_t size) noexcept

cdef extern from "Python.h":
    long long as_long_long "PyLong_AsLongLongAndOverflow"(
        object value, int* overflow) except? -1
    char* PyOS_double_to_string(double value, char code, int precision, int flags, int* kind) \
        except NULL
    int _PyBytes_Resize(PyObject** store, Py_ssize_t size) except -1
    const Py_ssize_t PY_SSIZE_T_MAX

import_datetime()

cdef enum:
    CHUNK = 8192                # characters of a long string that get room at a time
    SMALLEST_STORE = 4096
    LEAP = 1 << 20              # bytes up to which a store grows fourfold, then twofold

cdef Py_ssize_t MAX_DIGITS = 4300   # the reader takes no more
cdef int MAX_BITS = 14285           # of an integer with so many digits
cdef long long MAX_SCALE = 2147483647   # java.math.BigDecimal's

cdef dict CHARACTERS = {
    "\n": b"\\newline", " ": b"\\space", "\t": b"\\tab", "\r": b"\\return",
    "\b": b"\\backspace", "\f": b"\\formfeed",
}


# -- the output buffer --

cdef uint8_t* grow(OutputBuffer* output, uint8_t* at, Py_ssize_t count) except NULL:
    # By leaps, so that a text of n bytes is copied O(n) in all.
    cdef Py_ssize_t used = at - output.start, wanted
    cdef Py_ssize_t capacity = max(output.end - output.start + MARGIN, SMALLEST_STORE)
    if count > PY_SSIZE_T_MAX // 8 - used:
        raise MemoryError(f"expected a text under 2^60 bytes, got {count} more")
    wanted = used + count + MARGIN
    while capacity < wanted:
        capacity *= 4 if capacity < LEAP else 2
    if output.store is NULL:
        store = PyBytes_FromStringAndSize(NULL, capacity)
        memcpy(PyBytes_AS_STRING(store), output.start, <size_t>used)
        output.store = new_ref(store)
    else:
        _PyBytes_Resize(&output.store, capacity)     # frees it and sets NULL where it fails
    output.start = <uint8_t*>PyBytes_AS_STRING(<object>output.store)
    output.end = output.start + capacity - MARGIN
    return output.start + used


cdef bytes close_output(OutputBuffer* output, uint8_t* at):
    cdef PyObject* store = output.store
    if store is NULL:
        return PyBytes_FromStringAndSize(<char*>output.start, at - output.start)
    output.store = NULL
    _PyBytes_Resize(&store, at - output.start)
    return <bytes>steal_ref(store)


cdef void drop_output(OutputBuffer* output) noexcept:
    xdecref(output.store)
    output.store = NULL


cdef inline uint8_t* _plain(OutputBuffer* output, uint8_t* at, const void* text, Py_ssize_t size) \
        except NULL:
    at = room(output, at, size)
    memcpy(at, text, <size_t>size)
    return at + size


cdef uint8_t* write_text(OutputBuffer* output, uint8_t* at, object name) except NULL:
    cdef Py_ssize_t size = 0
    cdef const char* data
    if is_ascii(<PyObject*>name):
        return _plain(
            output, at, PyUnicode_DATA(<PyObject*>name), PyUnicode_GET_LENGTH(<PyObject*>name))
    data = PyUnicode_AsUTF8AndSize(name, &size)
    return _plain(output, at, data, size)


# -- error messages --

cdef str shown_value(object value):
    # The repr, cut; of a value that may be large or deep, only the type and the size.
    cdef str text
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return f"a {type(value).__name__} of {len(value)}"
    if isinstance(value, int) and int.bit_length(value) > 320:
        return f"an int of {int.bit_length(value)} bits"
    try:
        text = repr(value[:80] if isinstance(value, (str, bytes)) and len(value) > 80 else value)
    except Exception:       # a repr of the caller's
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:80] + "..."


def shown(value):
    """Return a value as error messages show it: its repr, cut. For packers in Python."""
    return shown_value(value)


# -- strings and characters --

cdef uint8_t* write_string(OutputBuffer* output, uint8_t* at, object text) except NULL:
    cdef Py_ssize_t size, part
    cdef const uint8_t* data
    cdef int width
    make_ready(text)
    size = PyUnicode_GET_LENGTH(<PyObject*>text)
    data = <const uint8_t*>PyUnicode_DATA(<PyObject*>text)
    width = 0
    if not PyUnicode_IS_COMPACT_ASCII(<PyObject*>text):
        width = PyUnicode_KIND(<PyObject*>text)
    at[0] = c'"'
    at = room(output, at + 1, size)
    while size:
        part = min(size, CHUNK)
        if width == 0:
            at = room(output, at, part * 2)
            at = chansock_escape(at, data, part)
            data += part
        else:
            at = room(output, at, part * 6)
            at = chansock_escape_wide(at, data, width, part)
            data += part * width
        size -= part
    at[0] = c'"'
    return at + 1


cdef uint8_t* write_character(OutputBuffer* output, uint8_t* at, object value) except NULL:
    cdef uint32_t point
    cdef bytes name
    cdef PyObject* text = <PyObject*>value
    make_ready(value)
    if PyUnicode_GET_LENGTH(text) == 1:
        point = PyUnicode_READ(PyUnicode_KIND(text), PyUnicode_DATA(text), 0)
        if point <= 0xFFFF and not 0xD800 <= point <= 0xDFFF:
            if value in CHARACTERS:
                name = CHARACTERS[value]
                return _plain(output, at, <char*>name, len(name))
            at[0] = c'\\'
            return write_text(output, at + 1, value)
    raise EncodeError(f"expected a Char of one UTF-16 unit, got {shown_value(value)}")


# -- numbers --

cdef uint8_t* write_int(OutputBuffer* output, uint8_t* at, object value) except NULL:
    cdef int overflow = 0
    cdef int64_t small = as_long_long(value, &overflow)
    if overflow:
        at = write_text(output, at, _digits(value))
        at[0] = c'N'
        return at + 1
    if small < 0:
        at[0] = c'-'
        at += 1
    return chansock_put_uint(at, <uint64_t>small if small >= 0 else 0 - <uint64_t>small)


cdef str _digits(object value):
    # Look at the bits first: the time to compute the digits grows with the square of their number.
    cdef Py_ssize_t most = MAX_DIGITS
    cdef str text
    if int.bit_length(value) <= MAX_BITS:
        try:
            text = int.__repr__(value)
            if len(text) - (value < 0) <= most:
                return text
        except ValueError:      # CPython's own limit, which can be lower
            most = min(most, sys.get_int_max_str_digits())
    raise EncodeError(f"expected an integer of at most {most} digits, got {shown_value(value)}")


cdef uint8_t* write_float(OutputBuffer* output, uint8_t* at, double value) except NULL:
    # Python's digits (the shortest that read back) in the layout of Double.toString.
    cdef char* text
    if value != value:
        return _plain(output, at, b"##NaN", 5)
    if value - value != 0:
        return _plain(output, at, b"##Inf", 5) if value > 0 else _plain(output, at, b"##-Inf", 6)
    text = PyOS_double_to_string(value, c'r', 0, 0, NULL)
    try:
        if -1e-300 < value < 1e-300 and value != 0 and text[1 + (value < 0)] == c'e':
            # Java wants two digits, and takes the nearest two: 4.9E-324
            PyMem_Free(text)
            text = NULL
            text = PyOS_double_to_string(value, c'e', 1, 0, NULL)
        return _lay_out(at, text)
    finally:
        PyMem_Free(text)


cdef uint8_t* _lay_out(uint8_t* at, const char* text) noexcept:
    # `1e-05`, `12.5`, `1e+16` -> digits and a decimal exponent -> Java's layout.
    cdef char[32] digits
    cdef int count = 0, point = 0, exponent = 0, i, lead = 0
    cdef bint negative_exponent, seen = False
    cdef const char* p = text
    if p[0] == c'-':
        at[0] = c'-'
        at += 1
        p += 1
    while p[0] and p[0] != c'e':
        if p[0] == c'.':
            seen = True
        else:
            if not seen:
                point += 1
            if count or p[0] != c'0':
                digits[count] = p[0]
                count += 1
            else:
                lead += 1
        p += 1
    if p[0] == c'e':
        negative_exponent = p[1] == c'-'
        p += 2
        while p[0]:
            exponent = exponent * 10 + (p[0] - c'0')
            p += 1
        if negative_exponent:
            exponent = -exponent
    while count > 1 and digits[count - 1] == c'0':
        count -= 1
    if count == 0:
        memcpy(at, b"0.0", 3)
        return at + 3
    exponent += point - lead - 1        # of the first digit that is not 0
    if -3 <= exponent < 7:
        if exponent < 0:
            memcpy(at, b"0.000", 5)
            at += 1 - exponent
            memcpy(at, digits, <size_t>count)
            return at + count
        for i in range(max(count, exponent + 2)):
            if i == exponent + 1:
                at[0] = c'.'
                at += 1
            at[0] = <uint8_t>digits[i] if i < count else <uint8_t>c'0'
            at += 1
        return at
    at[0] = <uint8_t>digits[0]
    at[1] = c'.'
    at[2] = c'0'
    memcpy(at + 2, digits + 1, <size_t>(count - 1))
    at += 1 + max(count, 2)
    at[0] = c'E'
    at[1] = c'-'
    at += 1 + (exponent < 0)
    return chansock_put_uint(at, <uint64_t>abs(exponent))


cdef uint8_t* write_decimal(OutputBuffer* output, uint8_t* at, object value) except NULL:
    cdef str text
    if not value:
        value = value.copy_abs()    # java.math.BigDecimal has no -0
    text = str(value).upper()       # the context of the thread may make it a small e
    if "E" in text and abs(<object>value.as_tuple().exponent) > MAX_SCALE:
        raise EncodeError(
            f"expected a decimal with an exponent of 32 bits, got {shown_value(value)}")
    at = write_text(output, at, text)
    at[0] = c'M'
    return at + 1


cdef uint8_t* write_fraction(OutputBuffer* output, uint8_t* at, object value) except NULL:
    at = write_text(output, at, _digits(value.numerator))
    at[0] = c'/'
    return write_text(output, at + 1, _digits(value.denominator))


# -- #inst and #uuid --

cdef inline uint8_t* _padded(uint8_t* at, int value, int width, uint8_t behind) noexcept:
    cdef int i
    for i in range(width - 1, -1, -1):
        at[i] = <uint8_t>(c'0' + value % 10)
        value //= 10
    at[width] = behind
    return at + width + 1


cdef uint8_t* write_instant(OutputBuffer* output, uint8_t* at, object moment) except NULL:
    # Milliseconds as Clojure writes them; six digits if there are more.
    cdef int micro = datetime_microsecond(moment)
    memcpy(at, b'#inst "', 7)
    at = _padded(at + 7, datetime_year(moment), 4, c'-')
    at = _padded(at, datetime_month(moment), 2, c'-')
    at = _padded(at, datetime_day(moment), 2, c'T')
    at = _padded(at, datetime_hour(moment), 2, c':')
    at = _padded(at, datetime_minute(moment), 2, c':')
    at = _padded(at, datetime_second(moment), 2, c'.')
    at = (_padded(at, micro, 6, c'-') if micro % 1000 else _padded(at, micro // 1000, 3, c'-'))
    memcpy(at, b'00:00"', 6)
    return at + 6


cdef uint8_t* write_uuid(OutputBuffer* output, uint8_t* at, object value) except NULL:
    memcpy(at, b'#uuid "', 7)
    at = write_text(output, at + 7, UUID.__str__(value))
    at[0] = c'"'
    return at + 1
