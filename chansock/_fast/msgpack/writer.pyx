# Values to Sente's MessagePack: the same values as in edn, by the same rules. The writer refuses a
# value that has no form, with the path that leads to it. Widths are those that Sente writes. It
# knows the envelope, nothing else of packets.
#
# This file holds how MessagePack spells collections, keys, and the common values, and the options
# of a write. Its parts, each of which uses only those before it:
#
#   scalars        text, bytes, keywords, integers, extensions
#   keys           map keys, and the numbers of those that came before
#   ../edn/values  the walk through values, shared with edn/writer

import sys
from array import array

cimport cython
from cpython.datetime cimport (
    datetime_hour, datetime_microsecond, datetime_minute, datetime_second, import_datetime)
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from chansock._fast.io.cpython_api cimport (
    PyFloat_AS_DOUBLE, PyFloat_Type, PyLong_AsLongLongAndOverflow, PyLong_Type, PyUnicode_DATA,
    PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII, PyUnicode_Type, Py_False, Py_None, Py_True,
    Py_TYPE, is_small, small_value)
from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.edn.writer cimport (
    IN_BATCH, IN_PACKET, KIND_DECIMAL, KIND_ENUM, KIND_MAP, KIND_MOMENT, KIND_RATIO, KIND_REAL,
    KIND_SEQUENCE, KIND_SET, KIND_STRING_MAP, KIND_TEXT, KIND_UNKNOWN, KIND_UUID, KIND_WHOLE,
    EncodeState, Known, Shape, close_output, drop_marks, drop_state, enter, find_duplicate, grow,
    has_text_keys, hop, in_utc, keyword_trouble, known, lengthen, mark, open_state, refuse_keyword,
    room, shape_of, shown_value, step)

from chansock._fast.edn.writer import TextKey
from chansock.errors import ConfigError, EncodeError
from chansock.values import Keyword, Tagged

cdef extern from "msgpack/msgpack.h":
    uint8_t* put_float "chansock_put_float"(uint8_t* at, double value) noexcept
    uint8_t* put_four "chansock_put_four"(uint8_t* at, uint32_t n) noexcept
    uint8_t* put_head "chansock_put_head"(
        uint8_t* at, Py_ssize_t size, uint8_t fixed, uint8_t code) noexcept

include "scalars.pxi"
include "keys.pxi"
include "../edn/values.pxi"

import_datetime()

cdef enum:
    DEEPEST = 500

cdef str DEFAULT_HINT = " (or default=)"
cdef int64_t DAY_OF_1970 = 719163       # as datetime.toordinal counts
cdef dict ARRAYS = {"i": INTS, "f": FLOATS, "d": DOUBLES}


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
        if end - at < size:
            return NULL
        at = put_text_head(at, size)
        memcpy(at, PyUnicode_DATA(value), <size_t>size)
        return at + size
    if kind == &PyLong_Type:
        if is_small(value):
            whole = small_value(value)
        else:
            whole = PyLong_AsLongLongAndOverflow(value, &overflow)
            if overflow:
                return NULL
        return put_int(at, whole)
    if value == Py_None:
        at[0] = 0xC0
        return at + 1
    if kind == KEYWORD_TYPE:
        entry = known(value)
        if entry is NULL or entry.size == 0:
            return NULL
        return put_known(at, entry)
    if kind == &PyFloat_Type:
        if PyFloat_AS_DOUBLE(value) != PyFloat_AS_DOUBLE(value):
            return NULL
        return put_float(at, PyFloat_AS_DOUBLE(value))
    if value == Py_True:
        at[0] = 0xC3
        return at + 1
    if value == Py_False:
        at[0] = 0xC2
        return at + 1
    return NULL


# -- heads; MessagePack separates and closes nothing --

cdef inline uint8_t* _open_list(uint8_t* at, Py_ssize_t size, bint is_list) except NULL:
    check_size(size)
    return put_head(at, size, 0x90, 0xDC)


cdef inline uint8_t* _open_map(uint8_t* at, Py_ssize_t size) except NULL:
    check_size(size)
    return put_head(at, size, 0x80, 0xDE)


cdef inline uint8_t* _between(uint8_t* at, Py_ssize_t index) noexcept:
    return at


cdef inline uint8_t* _close_list(uint8_t* at, bint is_list) noexcept:
    return at


cdef inline uint8_t* _close_map(uint8_t* at) noexcept:
    return at


# -- keys --

cdef inline uint8_t* _quick_key(
        EncodeState* w, uint8_t* at, PyObject* key, bint keyword_keys, int first) noexcept:
    cdef PyTypeObject* kind = Py_TYPE(key)
    if kind == &PyUnicode_Type or kind == KEYWORD_TYPE:
        return put_key(w, at, key, kind == &PyUnicode_Type and not keyword_keys)
    return NULL


cdef inline uint8_t* _before_key(uint8_t* at, int first) noexcept:
    return at


cdef inline uint8_t* _after_key(uint8_t* at) noexcept:
    return at


cdef inline uint8_t* _name_key(
        EncodeState* w, uint8_t* at, object key, bint is_string) except NULL:
    return write_key(w, at, key, is_string)


cdef uint8_t* _keyword_key(EncodeState* w, uint8_t* at, object key) except NULL:
    keyword_trouble(key)    # the name then becomes known; it may be one that edn has not
    return write_key(w, at, key, False)


cdef bint _pause_keys(EncodeState* w) noexcept:
    # From here on keys are written in full. Return what _resume_keys needs.
    cdef Keys* keys = <Keys*>w.keys
    cdef bint was_paused
    if keys is NULL:
        return False
    was_paused = keys.is_off
    keys.is_off = True
    return was_paused


cdef void _resume_keys(EncodeState* w, bint was_paused) noexcept:
    cdef Keys* keys = <Keys*>w.keys
    if keys is not NULL:
        keys.is_off = was_paused


cdef str _shown_text(bytes text):
    return repr(text[:40])


# -- one value --

cdef inline uint8_t* _string(EncodeState* w, uint8_t* at, object value) except NULL:
    return write_string(&w.output, at, value)


cdef uint8_t* _whole(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    cdef uint8_t* behind = write_int(at, value)
    if behind is not NULL:
        return behind
    return _convert(w, at, value, place, "an integer of at most 64 bits")


cdef inline uint8_t* _float(EncodeState* w, uint8_t* at, double value) except NULL:
    w.converted += value != value   # two NaN are one to JavaScript, inside a tuple too
    return put_float(at, value)


cdef inline uint8_t* _keyword(EncodeState* w, uint8_t* at, object value) except NULL:
    return write_keyword(&w.output, at, value)


cdef inline uint8_t* _symbol(EncodeState* w, uint8_t* at, object value) except NULL:
    return write_text(&w.output, at, SYMBOL, value)


cdef inline uint8_t* _character(EncodeState* w, uint8_t* at, object value) except NULL:
    return write_character(&w.output, at, value)


cdef uint8_t* _text(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    value = str.__str__(value)
    if place == VALUE:
        return write_string(&w.output, at, value)
    return _key(w, at, value, place == KEYWORD_KEY)


cdef inline uint8_t* _uuid(EncodeState* w, uint8_t* at, object value) except NULL:
    return write_text(&w.output, at, UUID_TEXT, UUID.__str__(value))


cdef uint8_t* _moment(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    cdef int64_t seconds
    moment = in_utc(w, value)
    if moment is None:
        return _convert(w, at, value, place, "a datetime with a time zone")
    seconds = (<int64_t>datetime.toordinal(moment) - DAY_OF_1970) * 86400
    seconds += (datetime_hour(moment) * 60 + datetime_minute(moment)) * 60
    seconds += datetime_second(moment)
    at = put_extension_head(at, 12, INSTANT)
    at = put_four(at, <uint32_t>datetime_microsecond(moment) * 1000)
    return put_eight(at, <uint64_t>seconds)


cdef uint8_t* _set(EncodeState* w, uint8_t* at, object members) except NULL:
    # An extension that holds an array. Its length is known only once it is written.
    cdef Py_ssize_t start = at - w.output.start, head, count = 0, left, size
    cdef uint8_t[8] memory
    cdef bint was_paused = _pause_keys(w)
    if type(members) is not set and type(members) is not frozenset:
        members = set(members)      # a subclass may have a `len` of its own
    left = len(members)
    check_size(left)
    at = put_head(at + 3, left, 0x90, 0xDC)
    if left:
        at = _set_members(w, at, members, &count)
        if count != left:
            raise RuntimeError("expected a set to stay as it is while it is written")
    _resume_keys(w, was_paused)
    size = at - w.output.start - start - 3
    check_size(size)
    at = room(&w.output, at, 0)
    head = put_extension_head(memory, size, SET) - memory
    if head != 3:
        memmove(w.output.start + start + head, w.output.start + start + 3, <size_t>size)
    memcpy(w.output.start + start, memory, <size_t>head)
    return at + head - 3


# -- the rarer types --

cdef uint8_t* _own_type(EncodeState* w, uint8_t* at, object value, int place) except? NULL:
    cdef object kind = type(value)
    if kind is bytes:
        return write_bytes(&w.output, at, value)
    if isinstance(value, (bytes, bytearray, memoryview)):
        w.converted += 1
        return write_bytes(&w.output, at, bytes(value))
    if isinstance(value, array):
        return _numbers(w, at, value, place)
    if kind is Tagged:
        return _unknown(w, at, value, place)
    return NULL


cdef uint8_t* _numbers(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    code = value.typecode
    if code not in ARRAYS or code == "i" and value.itemsize != 4:
        return _convert(w, at, value, place, "an array of typecode 'i', 'f' or 'd'")
    if sys.byteorder == "little":
        value = array(code, value)
        value.byteswap()
    return write_extension(&w.output, at, ARRAYS[code], value.tobytes())


cdef uint8_t* _decimal(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    return _unknown(w, at, value, place)


cdef uint8_t* _ratio(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    cdef uint8_t[24] memory
    cdef uint8_t* behind
    if value.denominator == 1:
        return _whole(w, at, value.numerator, place)
    behind = write_int(memory, value.numerator)
    if behind is not NULL:
        behind = write_int(behind, value.denominator)
    if behind is NULL:
        return _convert(w, at, value, place, "a ratio of integers of at most 64 bits")
    at = put_extension_head(at, behind - memory, RATIO)
    memcpy(at, memory, sizeof(memory))
    return at + (behind - memory)


cdef uint8_t* _unknown(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    return _convert(w, at, value, place, "a value that MessagePack has a form for")


# -- the writer --

@cython.final
cdef class MessagePackWriter:
    """Writes values as MessagePack. Options: what a str key becomes, default= for other types."""

    def __cinit__(self, keys="keyword", default=None):
        if keys not in ("keyword", "string"):
            raise ConfigError(f"keys: expected 'keyword' or 'string', got {keys!r}")
        self.keyword_keys = keys == "keyword"
        self.default = default
        self.max_depth = DEEPEST

    cdef void _open(self, EncodeState* w, int depth, uint8_t* memory) noexcept:
        open_state(
            w, depth, self.max_depth, self.keyword_keys, <PyObject*>self.default, memory, ROOM)

    cdef bytes put_event(self, object name, object data, bint has_data):
        return self._put_event(name, data, has_data, False)

    cdef bytes _put_event(self, object name, object data, bint has_data, bint is_careful):
        cdef uint8_t[ROOM] memory
        cdef uint8_t* at = memory
        cdef EncodeState w
        cdef str trouble
        if not isinstance(name, str):
            raise EncodeError(f"expected a keyword's name, got {shown_value(name)}")
        if type(name) is not Keyword:
            trouble = keyword_trouble(name)
            if trouble is not None:
                refuse_keyword(name, False, trouble)
            name = str.__str__(name)
        self._open(&w, IN_BATCH, memory)
        w.is_careful = is_careful
        at[0] = 0x91 + has_data
        try:
            at = write_keyword(&w.output, at + 1, name)
            if has_data:
                at = _value(&w, at, <PyObject*>data)
        except TextKey:
            at = NULL
            drop_state(&w)
        except BaseException:
            drop_state(&w)
            raise
        if at is NULL:
            return self._put_event(name, data, has_data, True)
        drop_marks(&w)
        return close_output(&w.output, at)

    cdef bytes put_packet(self, object value, object cb_id, WriteBuffer out):
        return self._put_packet(value, cb_id, out, False)

    cdef bytes _put_packet(
            self, object value, object cb_id, WriteBuffer out, bint is_careful):
        cdef uint8_t[ROOM] memory
        cdef uint8_t* at = memory
        cdef EncodeState w
        cdef Keys keys
        keys.count = 0
        keys.is_off = False
        self._open(&w, IN_PACKET, memory)
        w.keys = &keys
        w.is_careful = is_careful
        at[0] = 0x92
        try:
            at = _value(&w, at + 1, <PyObject*>value)
            at = _value(&w, at, <PyObject*>cb_id)
        except TextKey:
            at = NULL
            forget_keys(&keys)
            drop_state(&w)
        except BaseException:
            forget_keys(&keys)
            drop_state(&w)
            raise
        if at is NULL:
            return self._put_packet(value, cb_id, out, True)
        forget_keys(&keys)
        drop_marks(&w)
        if out is None or w.output.store is not NULL:
            return close_output(&w.output, at)
        out.cut(0)
        out.put(memory, at - memory)
        return None
