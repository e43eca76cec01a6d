# Values to Sente's MessagePack: the same values as in edn, and by the same rules: what has no
# form is refused with the path that leads to it. Widths are those that Sente writes.
#
# As in edn/writer, the common values are leaves: written without a call into Python, so they are
# neither held nor watched. Everything else goes through _entry and _member.

import sys
from array import array
from datetime import datetime
from uuid import UUID

cimport cython
from cpython.datetime cimport (
    datetime_hour, datetime_microsecond, datetime_minute, datetime_second, import_datetime)
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy, memmove

from chansock._fast.edn cimport records
from chansock._fast.io.cpython_api cimport (
    Py_False, Py_None, Py_True, Py_TYPE, PyDict_GET_SIZE, PyDict_Next, PyDict_Type,
    PyFloat_AS_DOUBLE, PyFloat_Type, PyList_Type, PyLong_AsLongLongAndOverflow, PyLong_Type,
    PySequence_Fast_GET_ITEM, PySequence_Fast_GET_SIZE, PyTuple_Type, PyUnicode_DATA,
    PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII, PyUnicode_Type, is_small, small_value)
from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.edn.names cimport (
    Known, has_text_keys, keyword_trouble, known, refuse_keyword)
from chansock._fast.edn.records cimport Shape, shape_of
from chansock._fast.edn.scalars cimport close_output, grow, room, shown_value
from chansock._fast.edn.encode_state cimport (
    IN_BATCH, IN_PACKET, drop_marks, drop_state, enter, hop, in_utc, lengthen, mark, open_state,
    step, find_duplicate)
from chansock._fast.msgpack.keys cimport (
    Keys, Write, forget_keys, keep_out, let_in, put_key, write_key)
from chansock._fast.msgpack.scalars cimport (
    DOUBLES, FLOATS, INSTANT, INTS, RATIO, SET, SYMBOL, UUID_TEXT, check_size,
    put_extension_head, put_known, write_bytes, write_character, write_extension, write_int,
    write_keyword, write_string, write_text)

from chansock._fast.edn.names import TextKey
from chansock.errors import ConfigError, EncodeError
from chansock.values import Char, FrozenDict, FrozenStrDict, Keyword, List, StrDict, Symbol, Tagged

cdef extern from "msgpack/msgpack.h":
    uint8_t* put_int "chansock_put_integer"(uint8_t* at, int64_t n) noexcept
    uint8_t* put_float "chansock_put_float"(uint8_t* at, double value) noexcept
    uint8_t* put_four "chansock_put_four"(uint8_t* at, uint32_t n) noexcept
    uint8_t* put_eight "chansock_put_eight"(uint8_t* at, uint64_t n) noexcept
    uint8_t* put_text_head "chansock_put_text_head"(uint8_t* at, Py_ssize_t size) noexcept
    uint8_t* put_head "chansock_put_head"(
        uint8_t* at, Py_ssize_t size, uint8_t fixed, uint8_t code) noexcept

import_datetime()

cdef enum:
    DEEPEST = 500
    ROOM = 4096         # bytes on the stack: most messages need no other

cdef int64_t DAY_OF_1970 = 719163       # as datetime.toordinal counts

# Where a value stands.
cdef enum:
    VALUE = 0
    KEYWORD_KEY = 1     # a map key, and a plain str is a keyword there
    STRING_KEY = 2

cdef PyTypeObject* KEYWORD_TYPE = <PyTypeObject*>Keyword
cdef PyTypeObject* STR_DICT = <PyTypeObject*>StrDict
cdef dict ARRAYS = {"i": INTS, "f": FLOATS, "d": DOUBLES}


# -- leaves --

cdef inline uint8_t* _leaf(uint8_t* end, uint8_t* at, PyObject* value) noexcept:
    # A value that is written at once, within the margin; NULL: it takes more.
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


# -- the writer --

cdef inline bint _is_name(object key) noexcept:
    return type(key) is str or type(key) is Keyword


cdef void _open(
        Write* w, int depth, int max_depth, uint8_t* memory, Keys* keys) noexcept:
    open_state(&w.state, depth, max_depth, memory, ROOM)
    w.keys = keys
    if keys is not NULL:
        keys.count = 0
        keys.is_off = False


@cython.final
cdef class MessagePackWriter:
    """Writes values as MessagePack. Options: what a str key becomes, what gives a form."""

    def __cinit__(self, keys="keyword", default=None):
        if keys not in ("keyword", "string"):
            raise ConfigError(f"keys: expected 'keyword' or 'string', got {keys!r}")
        self.keyword_keys = keys == "keyword"
        self.default = default
        self.max_depth = DEEPEST

    cdef bytes _alone(self, object value, int place):
        cdef uint8_t[ROOM] memory
        cdef uint8_t* at = memory
        cdef Write w
        _open(&w, 0, self.max_depth, memory, NULL)
        w.state.is_careful = True
        try:
            at = self._key(&w, at, value, place == KEYWORD_KEY)
        except BaseException:
            drop_state(&w.state)
            raise
        drop_marks(&w.state)
        return close_output(&w.state.output, at)

    cdef bytes put_event(self, object name, object data, bint has_data):
        return self._put_event(name, data, has_data, False)

    cdef bytes _put_event(self, object name, object data, bint has_data, bint is_careful):
        cdef uint8_t[ROOM] memory
        cdef uint8_t* at = memory
        cdef Write w
        cdef str trouble
        if not isinstance(name, str):
            raise EncodeError(f"expected a keyword's name, got {shown_value(name)}")
        if type(name) is not Keyword:
            trouble = keyword_trouble(name)
            if trouble is not None:
                refuse_keyword(name, False, trouble)
            name = str.__str__(name)
        _open(&w, IN_BATCH, self.max_depth, memory, NULL)
        w.state.is_careful = is_careful
        at[0] = 0x91 + has_data
        try:
            at = write_keyword(&w.state.output, at + 1, name)
            if has_data:
                at = self._value(&w, at, <PyObject*>data)
        except TextKey:
            at = NULL
            drop_state(&w.state)
        except BaseException:
            drop_state(&w.state)
            raise
        if at is NULL:
            return self._put_event(name, data, has_data, True)
        drop_marks(&w.state)
        return close_output(&w.state.output, at)

    cdef bytes put_packet(self, object value, object cb_id, WriteBuffer out):
        return self._put_packet(value, cb_id, out, False)

    cdef bytes _put_packet(
            self, object value, object cb_id, WriteBuffer out, bint is_careful):
        cdef uint8_t[ROOM] memory
        cdef uint8_t* at = memory
        cdef Write w
        cdef Keys keys
        _open(&w, IN_PACKET, self.max_depth, memory, &keys)
        w.state.is_careful = is_careful
        at[0] = 0x92
        try:
            at = self._value(&w, at + 1, <PyObject*>value)
            at = self._value(&w, at, <PyObject*>cb_id)
        except TextKey:
            at = NULL
            forget_keys(&keys)
            drop_state(&w.state)
        except BaseException:
            forget_keys(&keys)
            drop_state(&w.state)
            raise
        if at is NULL:
            return self._put_packet(value, cb_id, out, True)
        forget_keys(&keys)
        drop_marks(&w.state)
        if out is None or w.state.output.store is not NULL:
            return close_output(&w.state.output, at)
        out.cut(0)
        out.put(memory, at - memory)
        return None

    cdef uint8_t* _value(self, Write* w, uint8_t* at, PyObject* value) except NULL:
        cdef PyTypeObject* kind = Py_TYPE(value)
        cdef uint8_t* behind
        if at > w.state.output.end:
            at = grow(&w.state.output, at, 0)
        if kind == &PyDict_Type:
            return self._map(w, at, value, self.keyword_keys)
        if kind == &PyList_Type or kind == &PyTuple_Type:
            return self._members(w, at, value)
        behind = _leaf(w.state.output.end, at, value)
        if behind is not NULL:
            return behind
        if kind == &PyUnicode_Type:
            return write_string(&w.state.output, at, <object>value)
        if kind == &PyLong_Type:
            return self._whole(w, at, <object>value, VALUE)
        if kind == &PyFloat_Type:
            w.state.converted += 1   # two NaN are one to JavaScript, inside a tuple too
            return put_float(at, PyFloat_AS_DOUBLE(value))
        if kind == KEYWORD_TYPE:
            return write_keyword(&w.state.output, at, <object>value)
        if kind == STR_DICT:
            return self._map(w, at, value, False)
        return self._other(w, at, <object>value, VALUE)

    cdef uint8_t* _map(
            self, Write* w, uint8_t* at, PyObject* value, bint keyword_keys) except NULL:
        # Nothing is held while leaves are written: they cannot change the map.
        cdef Py_ssize_t place = 0, converted = 0, size = PyDict_GET_SIZE(value), left = size
        cdef Py_ssize_t marked = w.state.marked
        cdef PyObject* key = NULL
        cdef PyObject* item = NULL
        cdef PyTypeObject* kind
        cdef uint8_t* behind
        cdef int key_place
        if w.state.is_careful and keyword_keys:
            keyword_keys = not has_text_keys(<dict>value)
        key_place = KEYWORD_KEY if keyword_keys else STRING_KEY
        check_size(size)
        at = put_head(at, size, 0x80, 0xDE)
        if size:
            enter(&w.state)
        while PyDict_Next(value, &place, &key, &item):
            if at > w.state.output.end:
                at = grow(&w.state.output, at, 0)
            kind = Py_TYPE(key)
            behind = NULL
            if kind == &PyUnicode_Type or kind == KEYWORD_TYPE:
                behind = put_key(w, at, key, kind == &PyUnicode_Type and not keyword_keys)
            if behind is not NULL:
                at = behind
                behind = _leaf(w.state.output.end, at, item)
                if behind is NULL:
                    behind = self._entry(w, at, key, item, VALUE, &converted)
            else:
                behind = self._entry(w, at, key, item, key_place, &converted)
            at = behind
            left -= 1
            if left < 0 or PyDict_GET_SIZE(value) != size:
                break
        if left:
            raise RuntimeError("expected a dict to stay as it is while it is written")
        if at > w.state.output.end:
            at = grow(&w.state.output, at, 0)
        if size:
            if converted and size > 1:
                self._distinct(w, marked, <object>value, key_place)
            w.state.marked = marked
            w.state.depth -= 1
        return at

    cdef uint8_t* _entry(
            self, Write* w, uint8_t* at, PyObject* key_, PyObject* item_, int key_place,
            Py_ssize_t* converted) except NULL:
        # What may call Python code. key_place VALUE: the key is written already.
        cdef object key = <object>key_, item = <object>item_    # held
        cdef Py_ssize_t before = w.state.converted, start
        cdef bint was_off
        try:
            if key_place != VALUE and _is_name(key):
                at = self._key(w, at, key, key_place == KEYWORD_KEY)
            elif key_place != VALUE:
                start = at - w.state.output.start
                was_off = keep_out(w)
                at = self._key(w, at, key, key_place == KEYWORD_KEY)
                let_in(w, was_off)
                converted[0] += w.state.converted - before
                mark(&w.state, w.state.output.start + start, at)
            return self._value(w, at, <PyObject*>item)
        except EncodeError as error:
            lengthen(error, step(key))
            raise

    cdef uint8_t* _key(self, Write* w, uint8_t* at, object key, bint keyword_keys) except NULL:
        cdef object kind = type(key)
        cdef str trouble
        if kind is str:
            if keyword_keys:
                trouble = keyword_trouble(key)
                if trouble is not None:
                    if not w.state.is_careful:
                        raise TextKey
                    refuse_keyword(key, True, trouble)
            return write_key(w, at, key, not keyword_keys)
        if kind is Keyword:
            keyword_trouble(key)
            return write_key(w, at, key, False)
        if kind is int or kind is tuple:
            return self._value(w, at, <PyObject*>key)
        return self._other(w, at, key, KEYWORD_KEY if keyword_keys else STRING_KEY)

    cdef uint8_t* _members(self, Write* w, uint8_t* at, PyObject* members) except NULL:
        # Of a list or a tuple.
        cdef Py_ssize_t i, size = PySequence_Fast_GET_SIZE(members)
        cdef PyObject* member
        cdef uint8_t* behind
        check_size(size)
        at = put_head(at, size, 0x90, 0xDC)
        if size:
            enter(&w.state)
            for i in range(size):
                if at > w.state.output.end:
                    at = grow(&w.state.output, at, 0)
                member = PySequence_Fast_GET_ITEM(members, i)
                behind = _leaf(w.state.output.end, at, member)
                if behind is NULL:
                    behind = self._member(w, at, member, i)
                    if PySequence_Fast_GET_SIZE(members) != size:
                        raise RuntimeError("expected a list to stay as it is while it is written")
                at = behind
            if at > w.state.output.end:
                at = grow(&w.state.output, at, 0)
            w.state.depth -= 1
        return at

    cdef uint8_t* _member(
            self, Write* w, uint8_t* at, PyObject* member_, Py_ssize_t index) except NULL:
        cdef object member = <object>member_    # held
        try:
            return self._value(w, at, <PyObject*>member)
        except EncodeError as error:
            lengthen(error, f"[{index}]")
            raise

    cdef uint8_t* _set(self, Write* w, uint8_t* at, object members) except NULL:
        # An extension that holds an array. How long it is shows when it is written.
        cdef Py_ssize_t start = at - w.state.output.start, marked = w.state.marked, first, size
        cdef Py_ssize_t converted = w.state.converted, head, left = len(members)
        cdef uint8_t[8] memory
        cdef bint was_off = keep_out(w)
        cdef object member = None
        check_size(left)
        at = put_head(at + 3, left, 0x90, 0xDC)
        if left:
            enter(&w.state)
            try:
                for member in members:
                    first = at - w.state.output.start
                    at = self._value(w, at, <PyObject*>member)
                    mark(&w.state, w.state.output.start + first, at)
                    left -= 1
            except EncodeError as error:
                lengthen(error, step(member))
                raise
            if left:
                raise RuntimeError("expected a set to stay as it is while it is written")
            if w.state.converted != converted and len(members) > 1:
                self._distinct(w, marked, (), VALUE)
            w.state.marked = marked
            w.state.depth -= 1
        let_in(w, was_off)
        size = at - w.state.output.start - start - 3
        check_size(size)
        at = room(&w.state.output, at, 0)
        head = put_extension_head(memory, size, SET) - memory
        if head != 3:
            memmove(w.state.output.start + start + head, w.state.output.start + start + 3,
                    <size_t>size)
        memcpy(w.state.output.start + start, memory, <size_t>head)
        return at + head - 3

    cdef int _distinct(self, Write* w, Py_ssize_t marked, object keys, int place) except -1:
        # The keys and members that are marked, and the names, which are not.
        cdef bytes text = find_duplicate(
            &w.state, marked, [self._alone(key, place) for key in keys if _is_name(key)])
        if text is not None:
            raise EncodeError(f"expected distinct keys or members, got {text[:40]!r} again")
        return 0

    # -- the rarer types --

    cdef uint8_t* _other(self, Write* w, uint8_t* at, object value, int place) except NULL:
        cdef object kind = type(value)
        cdef Shape shape
        if kind is float or value is None or kind is bool:
            return self._value(w, at, <PyObject*>value)
        if kind is Symbol:
            return write_text(&w.state.output, at, SYMBOL, value)
        if kind is Char:
            return write_character(&w.state.output, at, value)
        if kind is List:
            return self._members(w, at, <PyObject*>value)
        if kind is set or kind is frozenset:
            return self._set(w, at, value)
        if kind is FrozenDict:
            return self._map(w, at, <PyObject*>value, self.keyword_keys)
        if kind is StrDict or kind is FrozenStrDict:
            return self._map(w, at, <PyObject*>value, False)
        if kind is UUID:
            return write_text(&w.state.output, at, UUID_TEXT, UUID.__str__(value))
        if kind is datetime:
            return self._moment(w, at, value, place)
        if kind is bytes:
            return write_bytes(&w.state.output, at, value)
        if isinstance(value, (bytes, bytearray, memoryview)):
            w.state.converted += 1
            return write_bytes(&w.state.output, at, bytes(value))
        if isinstance(value, array):
            return self._numbers(w, at, value, place)
        shape = shape_of(kind)
        if (kind is Tagged or shape.kind == records.DECIMAL
                or shape.kind == records.UNKNOWN):
            return self._convert(w, at, value, place, "a value that MessagePack has a form for")
        if shape.kind == records.RATIO:
            return self._ratio(w, at, value, place)
        w.state.converted += 1
        return self._based(w, at, value, shape, place)

    cdef uint8_t* _based(
            self, Write* w, uint8_t* at, object value, Shape shape, int place) except NULL:
        # A subclass as its base, an Enum as its value, a record as the map of its fields.
        cdef int kind = shape.kind
        if kind == records.ENUM:
            return self._again(w, at, value.value, place)
        if kind == records.TEXT:
            value = str.__str__(value)
            if place == VALUE:
                return write_string(&w.state.output, at, value)
            return self._key(w, at, value, place == KEYWORD_KEY)
        if kind == records.WHOLE:
            return self._whole(w, at, value, place)
        if kind == records.REAL:
            return put_float(at, PyFloat_AS_DOUBLE(<PyObject*>value))
        if kind == records.MAP or kind == records.STRING_MAP:
            value = dict(value)     # an OrderedDict has an order of its own
            return self._map(
                w, at, <PyObject*>value, self.keyword_keys and kind == records.MAP)
        if kind == records.SEQUENCE:
            return self._members(w, at, <PyObject*>value)
        if kind == records.SET:
            return self._set(w, at, set(value))     # its `len` may be its own
        if kind == records.MOMENT:
            return self._moment(w, at, value, place)
        if kind == records.UUID_VALUE:
            return write_text(&w.state.output, at, UUID_TEXT, UUID.__str__(value))
        value = shape.fields(value)
        if shape.is_root:
            return self._again(w, at, value, place)
        return self._map(w, at, <PyObject*>value, True)     # field names, whatever keys= says

    cdef uint8_t* _whole(self, Write* w, uint8_t* at, object value, int place) except NULL:
        cdef uint8_t* behind = write_int(at, value)
        if behind is not NULL:
            return behind
        return self._convert(w, at, value, place, "an integer of at most 64 bits")

    cdef uint8_t* _ratio(self, Write* w, uint8_t* at, object value, int place) except NULL:
        cdef uint8_t[24] memory
        cdef uint8_t* behind
        if value.denominator == 1:
            return self._whole(w, at, value.numerator, place)
        behind = write_int(memory, value.numerator)
        if behind is not NULL:
            behind = write_int(behind, value.denominator)
        if behind is NULL:
            return self._convert(w, at, value, place, "a ratio of integers of at most 64 bits")
        at = put_extension_head(at, behind - memory, RATIO)
        memcpy(at, memory, sizeof(memory))
        return at + (behind - memory)

    cdef uint8_t* _moment(self, Write* w, uint8_t* at, object value, int place) except NULL:
        cdef int64_t seconds
        moment = in_utc(&w.state, value)
        if moment is None:
            return self._convert(w, at, value, place, "a datetime with a time zone")
        seconds = (<int64_t>datetime.toordinal(moment) - DAY_OF_1970) * 86400
        seconds += (datetime_hour(moment) * 60 + datetime_minute(moment)) * 60
        seconds += datetime_second(moment)
        at = put_extension_head(at, 12, INSTANT)
        at = put_four(at, <uint32_t>datetime_microsecond(moment) * 1000)
        return put_eight(at, <uint64_t>seconds)

    cdef uint8_t* _numbers(self, Write* w, uint8_t* at, object value, int place) except NULL:
        code = value.typecode
        if code not in ARRAYS or code == "i" and value.itemsize != 4:
            return self._convert(
                w, at, value, place, "an array of typecode 'i', 'f' or 'd'")
        if sys.byteorder == "little":
            value = array(code, value)
            value.byteswap()
        return write_extension(&w.state.output, at, ARRAYS[code], value.tobytes())

    cdef uint8_t* _convert(
            self, Write* w, uint8_t* at, object value, int place, str expected) except NULL:
        if self.default is None:
            raise EncodeError(f"expected {expected} (or default=), got {shown_value(value)}")
        return self._again(w, at, self.default(value), place)

    cdef uint8_t* _again(self, Write* w, uint8_t* at, object value, int place) except NULL:
        # What stands for another value.
        hop(&w.state, value)
        if place == VALUE:
            at = self._value(w, at, <PyObject*>value)
        else:
            at = self._key(w, at, value, place == KEYWORD_KEY)
        w.state.hops -= 1
        return at
