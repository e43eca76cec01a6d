# cython: language_level=3
"""What stands in an HTTP request: its method, target and parameters, the values of a field.

A search over the bytes at each call, since a head is asked for a few of its fields, once, and
kept for as long as its connection. Nothing is judged: see request_reader. Imports nothing.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp

cdef extern from "fold.h":
    int differ "chansock_differ" (const char* a, const char* b, size_t size) noexcept nogil

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text) noexcept
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


cdef const char* _behind_line(const char* at, const char* end) noexcept:
    """The start of the next line, or NULL."""
    while at < end:
        at = <const char*>memchr(at, 13, end - at)
        if at == NULL or at + 1 >= end:
            return NULL
        at += 1
        if at[0] == 10:
            return at + 1
    return NULL


cdef const char* _value(
    const char* line, const char* end, const char* name, Py_ssize_t size, const char** stop
) noexcept:
    """Find the next field of this name from the end of `line` on; give where its value starts,
    without blanks around it, and in `stop` where it ends. NULL: there is none."""
    cdef const char* last
    while True:
        line = _behind_line(line, end)
        if line == NULL or end - line <= size:
            return NULL
        if line[size] == c":" and differ(line, name, size) == 0:
            break
    line += size + 1
    last = line
    while last < end and not (last[0] == 13 and last + 1 < end and last[1] == 10):
        last += 1
    while line < last and line[0] in b" \t":
        line += 1
    while line < last and (last - 1)[0] in b" \t":
        last -= 1
    stop[0] = last
    return line


cdef object _spelled(str name):
    # As it stands in a head: itself if it is ASCII, nearly always, else its bytes.
    return name if PyUnicode_IS_ASCII(name) else name.encode("latin-1", "replace")


cdef const char* _bytes_of(object spelled, Py_ssize_t* size) except NULL:
    if type(spelled) is bytes:
        size[0] = PyBytes_GET_SIZE(spelled)
        return PyBytes_AS_STRING(spelled)
    return PyUnicode_AsUTF8AndSize(spelled, size)


def value(bytes head not None, str name not None, default=None):
    """Return the first value of a field, as latin-1; the default if there is none."""
    cdef Py_ssize_t size = 0
    cdef object spelled = _spelled(name)
    cdef const char* key = _bytes_of(spelled, &size)
    cdef const char* start = PyBytes_AS_STRING(head)
    cdef const char* stop = NULL
    cdef const char* found = _value(start, start + PyBytes_GET_SIZE(head), key, size, &stop)
    return default if found == NULL else PyUnicode_DecodeLatin1(found, stop - found, NULL)


def values(bytes head not None, str name not None):
    """Return every value of a field, in the order received."""
    cdef Py_ssize_t size = 0
    cdef object spelled = _spelled(name)
    cdef const char* key = _bytes_of(spelled, &size)
    cdef const char* at = PyBytes_AS_STRING(head)
    cdef const char* end = at + PyBytes_GET_SIZE(head)
    cdef const char* found
    cdef list result = []
    while True:
        found = _value(at, end, key, size, &at)
        if found == NULL:
            return result
        result.append(PyUnicode_DecodeLatin1(found, at - found, NULL))


def method(bytes head not None):
    """Return the method; "" if there is no request line."""
    cdef const char* start = PyBytes_AS_STRING(head)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(head)
    cdef const char* space
    if size > 4 and memcmp(start, b"GET ", 4) == 0:
        return "GET"
    space = <const char*>memchr(start, c" ", size)
    return "" if space == NULL else PyUnicode_DecodeLatin1(start, space - start, NULL)


def target(bytes head not None):
    """Return the target, between the two blanks of the request line; b"" if there is none."""
    cdef Py_ssize_t size = 0
    cdef const char* found = target_of(head, &size)
    return PyBytes_FromStringAndSize(found, size)


cdef const char* target_of(bytes head, Py_ssize_t* size) noexcept:
    cdef const char* start = PyBytes_AS_STRING(head)
    cdef const char* end = start + PyBytes_GET_SIZE(head)
    cdef const char* stop
    start = <const char*>memchr(start, c" ", end - start)
    if start == NULL:
        size[0] = 0
        return PyBytes_AS_STRING(head)
    start += 1
    stop = <const char*>memchr(start, c" ", end - start)
    size[0] = 0 if stop == NULL else stop - start
    return start


def add_params(dict into not None, bytes part not None, Py_ssize_t most):
    """Add the parameters of a query or a form to lists of values, by name; values stay encoded.

    Past `most` of them the rest is not looked at.
    """
    cdef const char* at = PyBytes_AS_STRING(part)
    cdef const char* end = at + PyBytes_GET_SIZE(part)
    cdef const char* stop
    cdef const char* equals
    cdef object name
    cdef bytes given
    while at < end and most:
        most -= 1
        stop = <const char*>memchr(at, c"&", end - at)
        if stop == NULL:
            stop = end
        if stop > at:
            equals = <const char*>memchr(at, c"=", stop - at)
            if equals == NULL:
                name, given = _decoded(at, stop - at), b""
            else:
                name = _decoded(at, equals - at)
                given = PyBytes_FromStringAndSize(equals + 1, stop - equals - 1)
            if name in into:
                (<list>into[name]).append(given)
            else:
                into[name] = [given]
        at = stop + 1


def cookies(bytes head not None):
    """Return the cookies by name, as sent but for quotes around a value; the first counts."""
    cdef const char* at = PyBytes_AS_STRING(head)
    cdef const char* end = at + PyBytes_GET_SIZE(head)
    cdef const char* pair
    cdef const char* stop
    cdef const char* equals
    cdef const char* last
    cdef dict result = {}
    while True:
        pair = _value(at, end, b"cookie", 6, &at)
        if pair == NULL:
            return result
        while pair < at:
            stop = <const char*>memchr(pair, c";", at - pair)
            if stop == NULL:
                stop = at
            equals = <const char*>memchr(pair, c"=", stop - pair)
            last = stop
            while pair < last and pair[0] in b" \t":
                pair += 1
            while pair < last and (last - 1)[0] in b" \t":
                last -= 1
            if equals != NULL:
                name = PyUnicode_DecodeLatin1(pair, equals - pair, NULL)
                if name not in result:
                    equals += 1
                    if last - equals > 1 and equals[0] == c'"' and (last - 1)[0] == c'"':
                        equals += 1
                        last -= 1
                    result[name] = PyUnicode_DecodeLatin1(equals, max(0, last - equals), NULL)
            pair = stop + 1


def decoded(bytes text not None):
    """Return a percent-encoded name or value as text: UTF-8, `+` is a space, a broken escape
    stays as it is."""
    return _decoded(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef object _decoded(const char* text, Py_ssize_t size):
    if memchr(text, c"%", size) == NULL and memchr(text, c"+", size) == NULL:
        return PyUnicode_DecodeUTF8(text, size, "replace")
    return unquote_form(PyBytes_FromStringAndSize(text, size)).decode("utf-8", "replace")


cpdef bytes unquote_form(bytes text):
    """Decode a value of a form: `+` is a space, `%41` is A, a broken escape stays as it is.

    The standard library takes 0.3 s for a megabyte.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef const uint8_t* end = at + size
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(result)
    cdef uint8_t* out = start
    while at < end:
        if at[0] == c"%" and end - at > 2 and hex_digit(at[1]) >= 0 and hex_digit(at[2]) >= 0:
            out[0] = <uint8_t>(hex_digit(at[1]) << 4 | hex_digit(at[2]))
            at += 3
        else:
            out[0] = c" " if at[0] == c"+" else at[0]
            at += 1
        out += 1
    return result[:out - start]


cdef int hex_digit(uint8_t char) noexcept:
    if c"0" <= char <= c"9":
        return char - c"0"
    char |= 0x20
    return char - c"a" + 10 if c"a" <= char <= c"f" else -1


cdef bint asks_for(bytes head, bytes path):
    """Whether the target is this path, letter by letter, with a query or without."""
    cdef Py_ssize_t size = 0
    cdef const char* found = target_of(head, &size)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(path)
    return (
        size >= length and memcmp(found, PyBytes_AS_STRING(path), length) == 0
        and (size == length or found[length] == c"?")
    )
