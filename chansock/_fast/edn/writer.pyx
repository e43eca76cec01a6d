# Python values to edn text. The writer writes nothing that another reader would take for something
# else. It refuses a value that has no edn form, with the path that leads to it.
#
# This file holds how edn spells collections, keys, and the common values, the options of a write,
# and the functions for Python. Its parts, each of which uses only those before it:
#
#   scalars       the output buffer; strings, characters, numbers, #inst, #uuid
#   names         keywords, symbols, tags; the keywords that are known
#   records       how to write dataclasses, enums, and other types
#   encode_state  the state of one write
#   values        the walk through values, shared with msgpack/writer

from datetime import date, time, timedelta

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from chansock._fast.io.cpython_api cimport (
    PyFloat_AS_DOUBLE, PyFloat_Type, PyLong_AsLongLongAndOverflow, PyLong_Type, PyUnicode_DATA,
    PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII, PyUnicode_Type, Py_False, Py_None, Py_True,
    Py_TYPE, is_small, small_value)
from chansock._fast.io.buffer cimport WriteBuffer

from chansock.errors import ConfigError, EncodeError
from chansock.values import Tagged

cdef extern from "edn/digits.h":
    uint8_t* chansock_put_double(uint8_t* at, double value) noexcept
    ctypedef struct chansock_power:
        uint64_t high
        uint64_t low
    chansock_power* chansock_powers     # an array
    int CHANSOCK_LEAST_POWER
    int CHANSOCK_MOST_POWER

include "scalars.pxi"
include "names.pxi"
include "records.pxi"
include "encode_state.pxi"
include "values.pxi"

cdef enum:
    DEEPEST = 2000      # a level costs up to 700 bytes of C stack

cdef str DEFAULT_HINT = ""


cdef int _fill_powers() except -1:
    # 10^k to 128 bits, rounded up.
    cdef object power, one = 1
    cdef int k, bits
    for k in range(CHANSOCK_LEAST_POWER, CHANSOCK_MOST_POWER + 1):
        power = (10 * one) ** abs(k)
        bits = power.bit_length()
        if k < 0:
            power = -((-one << (127 + bits)) // power)
        elif bits > 128:
            power = -(-power >> (bits - 128))
        else:
            power <<= 128 - bits
        chansock_powers[k - CHANSOCK_LEAST_POWER].high = power >> 64
        chansock_powers[k - CHANSOCK_LEAST_POWER].low = power & 0xFFFFFFFFFFFFFFFF
    return 0


_fill_powers()


# -- leaves --

cdef inline uint8_t* _leaf(uint8_t* end, uint8_t* at, PyObject* value) noexcept:
    # Write a common value at once, within the margin; NULL: it takes more.
    cdef PyTypeObject* kind = Py_TYPE(value)
    cdef Py_ssize_t size
    cdef Known* entry
    cdef int64_t whole
    cdef int overflow = 0
    if kind == &PyUnicode_Type:
        if not PyUnicode_IS_COMPACT_ASCII(value):
            return NULL
        size = PyUnicode_GET_LENGTH(value)
        if end - at < size * 2:
            return NULL
        at[0] = c'"'
        at = chansock_escape(at + 1, <const uint8_t*>PyUnicode_DATA(value), size)
        at[0] = c'"'
        return at + 1
    if kind == &PyLong_Type:
        if is_small(value):
            whole = small_value(value)
        else:
            whole = PyLong_AsLongLongAndOverflow(value, &overflow)
            if overflow:
                return NULL
        at[0] = c'-'
        if whole < 0:
            return chansock_put_uint(at + 1, 0 - <uint64_t>whole)
        return chansock_put_uint(at, <uint64_t>whole)
    if value == Py_None:
        memcpy(at, b"nil", 3)
        return at + 3
    if kind == KEYWORD_TYPE:
        entry = known(value)
        if entry is NULL or entry.size == 0:
            return NULL
        memcpy(at, entry.text + 2, LONGEST_TEXT)
        return at + entry.size - 3
    if kind == &PyFloat_Type:
        return chansock_put_double(at, PyFloat_AS_DOUBLE(value))
    if value == Py_True:
        memcpy(at, b"true", 4)
        return at + 4
    if value == Py_False:
        memcpy(at, b"false", 5)
        return at + 5
    return NULL


# -- brackets, and what separates values --

cdef inline uint8_t* _open_list(uint8_t* at, Py_ssize_t size, bint is_list) noexcept:
    at[0] = c'(' if is_list else c'['
    return at + 1


cdef inline uint8_t* _close_list(uint8_t* at, bint is_list) noexcept:
    at[0] = c')' if is_list else c']'
    return at + 1


cdef inline uint8_t* _open_map(uint8_t* at, Py_ssize_t size) noexcept:
    at[0] = c'{'
    return at + 1


cdef inline uint8_t* _close_map(uint8_t* at) noexcept:
    at[0] = c'}'
    return at + 1


cdef inline uint8_t* _between(uint8_t* at, Py_ssize_t index) noexcept:
    at[0] = c' '     # the first value overwrites it: no branch
    return at + (index != 0)


# -- keys --

cdef inline uint8_t* _quick_key(
        EncodeState* w, uint8_t* at, PyObject* key, bint keyword_keys, int first) noexcept:
    cdef PyTypeObject* kind = Py_TYPE(key)
    cdef Known* entry
    if not ((kind == &PyUnicode_Type and keyword_keys) or kind == KEYWORD_TYPE):
        return NULL
    entry = known(key)
    if entry is NULL or entry.size == 0:
        return NULL
    memcpy(at, entry.text + 2 * first, LONGEST_TEXT)    # no `, ` before the first key
    return at + <int>entry.size - 2 * first


cdef inline uint8_t* _before_key(uint8_t* at, int first) noexcept:
    memcpy(at, b", ", 2)
    return at + 2 - 2 * first


cdef inline uint8_t* _after_key(uint8_t* at) noexcept:
    at[0] = c' '
    return at + 1


cdef inline uint8_t* _name_key(
        EncodeState* w, uint8_t* at, object key, bint is_string) except NULL:
    if is_string:
        return write_string(&w.output, at, key)
    return put_keyword(&w.output, at, key)


cdef inline uint8_t* _keyword_key(EncodeState* w, uint8_t* at, object key) except NULL:
    return write_keyword(&w.output, at, key, True)


cdef inline bint _pause_keys(EncodeState* w) noexcept:
    return False        # edn numbers no keys


cdef inline void _resume_keys(EncodeState* w, bint was_paused) noexcept:
    pass


cdef str _shown_text(bytes text):
    return text[:80].decode("utf-8", "replace")


# -- one value --

cdef inline uint8_t* _string(EncodeState* w, uint8_t* at, object value) except NULL:
    return write_string(&w.output, at, value)


cdef inline uint8_t* _whole(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    return write_int(&w.output, at, value)


cdef uint8_t* _float(EncodeState* w, uint8_t* at, double value) except NULL:
    w.converted += value != value   # two NaN are one in edn, inside a tuple too
    return write_float(&w.output, at, value)


cdef inline uint8_t* _keyword(EncodeState* w, uint8_t* at, object value) except NULL:
    return write_keyword(&w.output, at, value, False)


cdef inline uint8_t* _symbol(EncodeState* w, uint8_t* at, object value) except NULL:
    return write_symbol(&w.output, at, value)


cdef inline uint8_t* _character(EncodeState* w, uint8_t* at, object value) except NULL:
    return write_character(&w.output, at, value)


cdef uint8_t* _text(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    if place == KEYWORD_KEY:
        return write_keyword(&w.output, at, value, True)
    return write_string(&w.output, at, value)


cdef uint8_t* _uuid(EncodeState* w, uint8_t* at, object value) except NULL:
    enter(w)        # the string behind the tag counts, as in the reader
    w.depth -= 1
    return write_uuid(&w.output, at, value)


cdef uint8_t* _moment(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    enter(w)        # as for a UUID
    w.depth -= 1
    moment = in_utc(w, value)
    if moment is None:
        return _convert(w, at, value, place, "a datetime with a time zone")
    return write_instant(&w.output, at, moment)


cdef uint8_t* _set(EncodeState* w, uint8_t* at, object members) except NULL:
    cdef Py_ssize_t count = 0
    memcpy(at, b"#{", 2)
    at += 2
    if members:
        at = _set_members(w, at, members, &count)
    if at > w.output.end:
        at = grow(&w.output, at, 0)
    at[0] = c'}'
    return at + 1


# -- the rarer types --

cdef uint8_t* _own_type(EncodeState* w, uint8_t* at, object value, int place) except? NULL:
    if type(value) is not Tagged:
        return NULL
    if not w.tagged:
        return _convert(w, at, value, place, "a value (or tagged=True at both ends)")
    at = write_tag(&w.output, at, value.tag)
    at[0] = c' '
    enter(w)
    held = value.value
    at = _value(w, at + 1, <PyObject*>held)
    w.depth -= 1
    return at


cdef uint8_t* _decimal(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    if not value.is_finite():
        return _convert(w, at, value, place, "a finite Decimal")
    return write_decimal(&w.output, at, value)


cdef uint8_t* _ratio(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    if value.denominator == 1:
        return write_int(&w.output, at, value.numerator)
    return write_fraction(&w.output, at, value)


cdef uint8_t* _unknown(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    return _convert(
        w, at, value, place,
        f"a value that edn has a form for ({_hint_of(value)})" if w.default == Py_None
        else "a value that edn has a form for")


cdef str _hint_of(value):
    # How a value without a form may be written after all; `packers.EDN` is for a channel.
    if isinstance(value, (date, time, timedelta)):
        return "or default=edn.iso, as in packers.EDN(default=edn.iso)"
    return "or default=, as in packers.EDN(default=...)"


# -- the writer --

@cython.final
cdef class Writer:
    """Writes values as edn. Options: what a str key becomes, and default= for other types."""

    def __cinit__(self, keys="keyword", default=None, int max_depth=500, bint tagged=True):
        if keys not in ("keyword", "string"):
            raise ConfigError(f"keys: expected 'keyword' or 'string', got {keys!r}")
        if not 1 <= max_depth <= DEEPEST:
            raise ConfigError(f"max_depth: expected 1 to {DEEPEST}, got {max_depth}")
        self.keyword_keys = keys == "keyword"
        self.default = default
        self.max_depth = max_depth
        self.tagged = tagged

    def encode(self, value):
        """Return value as edn, UTF-8; raises EncodeError if it has no edn form."""
        return self._encode(value, False)

    cdef void _open(self, EncodeState* w, int depth, uint8_t* memory) noexcept:
        open_state(
            w, depth, self.max_depth, self.keyword_keys, <PyObject*>self.default, memory, ROOM)
        w.tagged = self.tagged

    cdef bytes _encode(self, object value, bint is_careful):
        cdef uint8_t[ROOM] memory
        cdef uint8_t* at = memory
        cdef EncodeState w
        self._open(&w, 0, memory)
        w.is_careful = is_careful
        try:
            at = _value(&w, at, <PyObject*>value)
        except TextKey:
            at = NULL
            drop_state(&w)
        except BaseException:
            drop_state(&w)
            raise
        if at is NULL:
            return self._encode(value, True)
        drop_marks(&w)
        return close_output(&w.output, at)

    cdef bytes put_pair(
            self, object first, object second, bint is_named, bint has_second, WriteBuffer out):
        return self._put_pair(first, second, is_named, has_second, out, False)

    cdef bytes _put_pair(
            self, object first, object second, bint is_named, bint has_second, WriteBuffer out,
            bint is_careful):
        cdef uint8_t[ROOM] memory
        cdef uint8_t* at = memory
        cdef EncodeState w
        self._open(&w, IN_BATCH if is_named else IN_PACKET, memory)
        w.is_careful = is_careful
        at[0] = c'['
        try:
            if is_named:
                if not isinstance(first, str):
                    raise EncodeError(f"expected a keyword's name, got {shown_value(first)}")
                at = write_keyword(&w.output, at + 1, first, False)
            else:
                at = _value(&w, at + 1, <PyObject*>first)
            if has_second:
                at[0] = c' '
                at = _value(&w, at + 1, <PyObject*>second)
        except TextKey:
            at = NULL
            drop_state(&w)
        except BaseException:
            drop_state(&w)
            raise
        if at is NULL:
            return self._put_pair(first, second, is_named, has_second, out, True)
        drop_marks(&w)
        at[0] = c']'
        if out is None or w.output.store is not NULL:
            return close_output(&w.output, at + 1)
        out.cut(0)
        out.put(memory, at + 1 - memory)
        return None


# -- for Python --

cdef Writer PLAIN = Writer()


@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
def dumps(value, *, keys="keyword", default=None):
    """
    Return value as edn, UTF-8.

    `default` is called with each value that edn has no form for, and returns one to write instead.
    Raises EncodeError, with the path to the value, if it cannot be written.
    """
    if default is None and keys == "keyword":
        return PLAIN.encode(value)
    return Writer(keys, default).encode(value)
