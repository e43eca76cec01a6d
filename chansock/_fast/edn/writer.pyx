# Python values to edn text: what each type becomes, and the collections. Nothing is written that
# another reader would take for something else; what has no edn form is refused with the path
# that leads to it.
#
# The common values are leaves: exact types that are written without a call into Python, so
# they are neither held nor watched. Everything else goes through _entry and _member.

from datetime import date, datetime, time, timedelta
from uuid import UUID

cimport cython
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.string cimport memcpy

from chansock._fast.edn cimport records
from chansock._fast.io.cpython_api cimport (
    Py_False, Py_None, Py_True, Py_TYPE, PyDict_GET_SIZE, PyDict_Next, PyDict_Type,
    PyFloat_AS_DOUBLE, PyFloat_Type, PyList_Type, PyLong_AsLongLongAndOverflow, PyLong_Type,
    PySequence_Fast_GET_ITEM, PySequence_Fast_GET_SIZE, PyTuple_Type, PyUnicode_DATA,
    PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII, PyUnicode_Type, is_small, small_value)
from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.edn.names cimport (
    LONGEST_TEXT, Known, has_text_keys, known, write_keyword, write_symbol, write_tag)
from chansock._fast.edn.records cimport Shape, shape_of
from chansock._fast.edn.scalars cimport (
    close_output, grow, shown_value, write_character, write_decimal, write_float,
    write_fraction, write_instant, write_int, write_string, write_uuid)
from chansock._fast.edn.encode_state cimport (
    IN_BATCH, IN_PACKET, EncodeState, drop_marks, drop_state, enter, hop, in_utc, lengthen, mark,
    open_state, step, find_duplicate)

from chansock._fast.edn.names import TextKey
from chansock.errors import ConfigError, EncodeError
from chansock.values import Char, FrozenDict, FrozenStrDict, Keyword, List, StrDict, Symbol, Tagged

cdef extern from "edn/digits.h":
    uint8_t* chansock_put_uint(uint8_t* at, uint64_t n) noexcept
    uint8_t* chansock_put_double(uint8_t* at, double value) noexcept
    ctypedef struct chansock_power:
        uint64_t high
        uint64_t low
    chansock_power* chansock_powers     # an array
    int CHANSOCK_LEAST_POWER
    int CHANSOCK_MOST_POWER

cdef extern from "edn/quote.h":
    uint8_t* chansock_escape(uint8_t* at, const uint8_t* data, Py_ssize_t size) noexcept

cdef enum:
    DEEPEST = 2000      # a level costs up to 700 bytes of C stack
    ROOM = 4096         # bytes on the stack: most messages need no other

# Where a value stands.
cdef enum:
    VALUE = 0
    KEYWORD_KEY = 1     # a map key, and a plain str is a keyword there
    STRING_KEY = 2

cdef PyTypeObject* KEYWORD = <PyTypeObject*>Keyword
cdef PyTypeObject* STR_DICT = <PyTypeObject*>StrDict


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
    if kind == KEYWORD:
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


# -- the writer --

cdef inline bint _is_name(object key) noexcept:
    return type(key) is str or type(key) is Keyword


@cython.final
cdef class Writer:
    """Writes values as edn. Options: what a str key becomes, what gives other types a form."""

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
        return self._alone(value, VALUE)

    cdef bytes _alone(self, object value, int place):
        return self._put_alone(value, place, False)

    cdef bytes _put_alone(self, object value, int place, bint is_careful):
        cdef uint8_t[ROOM] memory
        cdef uint8_t* at = memory
        cdef EncodeState w
        open_state(&w, 0, self.max_depth, memory, ROOM)
        w.is_careful = is_careful
        try:
            if place == VALUE:
                at = self._value(&w, at, <PyObject*>value)
            else:
                at = self._key(&w, at, value, place == KEYWORD_KEY)
        except TextKey:
            at = NULL
            drop_state(&w)
        except BaseException:
            drop_state(&w)
            raise
        if at is NULL:
            return self._put_alone(value, place, True)
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
        open_state(&w, IN_BATCH if is_named else IN_PACKET, self.max_depth, memory, ROOM)
        w.is_careful = is_careful
        at[0] = c'['
        try:
            if is_named:
                if not isinstance(first, str):
                    raise EncodeError(f"expected a keyword's name, got {shown_value(first)}")
                at = write_keyword(&w.output, at + 1, first, False)
            else:
                at = self._value(&w, at + 1, <PyObject*>first)
            if has_second:
                at[0] = c' '
                at = self._value(&w, at + 1, <PyObject*>second)
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

    cdef uint8_t* _value(self, EncodeState* w, uint8_t* at, PyObject* value) except NULL:
        cdef PyTypeObject* kind = Py_TYPE(value)
        cdef uint8_t* behind
        if at > w.output.end:
            at = grow(&w.output, at, 0)
        if kind == &PyDict_Type:
            return self._map(w, at, value, self.keyword_keys)
        if kind == &PyList_Type or kind == &PyTuple_Type:
            at[0] = c'['
            return self._members(w, at + 1, value, c']')
        behind = _leaf(w.output.end, at, value)
        if behind is not NULL:
            return behind
        if kind == &PyUnicode_Type:
            return write_string(&w.output, at, <object>value)
        if kind == &PyLong_Type:
            return write_int(&w.output, at, <object>value)
        if kind == &PyFloat_Type:
            return self._float(w, at, PyFloat_AS_DOUBLE(value))
        if kind == KEYWORD:
            return write_keyword(&w.output, at, <object>value, False)
        if kind == STR_DICT:
            return self._map(w, at, value, False)
        return self._other(w, at, <object>value, VALUE)

    cdef uint8_t* _map(
            self, EncodeState* w, uint8_t* at, PyObject* value, bint keyword_keys) except NULL:
        # Nothing is held while leaves are written: they cannot change the map.
        cdef Py_ssize_t place = 0, converted = 0, size = PyDict_GET_SIZE(value), left = size
        cdef Py_ssize_t marked = w.marked
        cdef PyObject* key = NULL
        cdef PyObject* item = NULL
        cdef PyTypeObject* kind
        cdef uint8_t* behind
        cdef Known* entry
        cdef int skip = 2       # no `, ` before the first key
        cdef int key_place
        if w.is_careful and keyword_keys:
            keyword_keys = not has_text_keys(<dict>value)
        key_place = KEYWORD_KEY if keyword_keys else STRING_KEY
        at[0] = c'{'
        at += 1
        if size:
            enter(w)
        while PyDict_Next(value, &place, &key, &item):
            if at > w.output.end:
                at = grow(&w.output, at, 0)
            kind = Py_TYPE(key)
            entry = NULL
            if (kind == &PyUnicode_Type and keyword_keys) or kind == KEYWORD:
                entry = known(key)
            if entry is not NULL and entry.size:
                memcpy(at, entry.text + skip, LONGEST_TEXT)
                at += <int>entry.size - skip
                behind = _leaf(w.output.end, at, item)
                if behind is NULL:
                    behind = self._entry(w, at, key, item, VALUE, &converted)
            else:
                memcpy(at, b", ", 2)
                behind = self._entry(w, at + 2 - skip, key, item, key_place, &converted)
            at = behind
            skip = 0
            left -= 1
            if left < 0 or PyDict_GET_SIZE(value) != size:
                break
        if left:
            raise RuntimeError("expected a dict to stay as it is while it is written")
        if at > w.output.end:
            at = grow(&w.output, at, 0)
        if size:
            if converted and size > 1:
                self._distinct(w, marked, <object>value, key_place)
            w.marked = marked
            w.depth -= 1
        at[0] = c'}'
        return at + 1

    cdef uint8_t* _entry(
            self, EncodeState* w, uint8_t* at, PyObject* key_, PyObject* item_, int key_place,
            Py_ssize_t* converted) except NULL:
        # What may call Python code. key_place VALUE: the key is written already.
        cdef object key = <object>key_, item = <object>item_    # held
        cdef Py_ssize_t before = w.converted, start
        try:
            if key_place != VALUE:
                start = at - w.output.start
                at = self._key(w, at, key, key_place == KEYWORD_KEY)
                converted[0] += w.converted - before
                if not _is_name(key):
                    mark(w, w.output.start + start, at)
                at[0] = c' '
                at += 1
            return self._value(w, at, <PyObject*>item)
        except EncodeError as error:
            lengthen(error, step(key))
            raise

    cdef uint8_t* _key(
            self, EncodeState* w, uint8_t* at, object key, bint keyword_keys) except NULL:
        cdef object kind = type(key)
        if kind is str:
            if not keyword_keys:
                return write_string(&w.output, at, key)
            try:
                return write_keyword(&w.output, at, key, True)
            except EncodeError:
                if w.is_careful:
                    raise
            raise TextKey
        if kind is Keyword:
            return write_keyword(&w.output, at, key, True)
        if kind is int or kind is tuple:
            return self._value(w, at, <PyObject*>key)
        return self._other(w, at, key, KEYWORD_KEY if keyword_keys else STRING_KEY)

    cdef uint8_t* _members(
            self, EncodeState* w, uint8_t* at, PyObject* members, uint8_t close) except NULL:
        # Behind the opening bracket: forms with a space between. Of a list or a tuple.
        cdef Py_ssize_t i, size = PySequence_Fast_GET_SIZE(members)
        cdef PyObject* member
        cdef uint8_t* behind
        if size:
            enter(w)
            for i in range(size):
                if at > w.output.end:
                    at = grow(&w.output, at, 0)
                if i:
                    at[0] = c' '
                    at += 1
                member = PySequence_Fast_GET_ITEM(members, i)
                behind = _leaf(w.output.end, at, member)
                if behind is NULL:
                    behind = self._member(w, at, member, i)
                    if PySequence_Fast_GET_SIZE(members) != size:
                        raise RuntimeError("expected a list to stay as it is while it is written")
                at = behind
            if at > w.output.end:
                at = grow(&w.output, at, 0)
            w.depth -= 1
        at[0] = close
        return at + 1

    cdef uint8_t* _member(
            self, EncodeState* w, uint8_t* at, PyObject* member_, Py_ssize_t index) except NULL:
        cdef object member = <object>member_    # held
        try:
            return self._value(w, at, <PyObject*>member)
        except EncodeError as error:
            lengthen(error, f"[{index}]")
            raise

    cdef uint8_t* _set(self, EncodeState* w, uint8_t* at, object members) except NULL:
        cdef Py_ssize_t converted = w.converted, marked = w.marked, start
        cdef bint is_first = True
        cdef object member = None
        memcpy(at, b"#{", 2)
        at += 2
        if members:
            enter(w)
            try:
                for member in members:
                    if not is_first:
                        at[0] = c' '
                        at += 1
                    is_first = False
                    start = at - w.output.start
                    at = self._value(w, at, <PyObject*>member)
                    mark(w, w.output.start + start, at)
            except EncodeError as error:
                lengthen(error, step(member))
                raise
            if w.converted != converted and len(members) > 1:
                self._distinct(w, marked, (), VALUE)
            w.marked = marked
            w.depth -= 1
        if at > w.output.end:
            at = grow(&w.output, at, 0)
        at[0] = c'}'
        return at + 1

    cdef uint8_t* _tagged(self, EncodeState* w, uint8_t* at, object value) except NULL:
        at = write_tag(&w.output, at, value.tag)
        at[0] = c' '
        enter(w)
        held = value.value
        at = self._value(w, at + 1, <PyObject*>held)
        w.depth -= 1
        return at

    cdef int _distinct(self, EncodeState* w, Py_ssize_t marked, object keys, int place) except -1:
        # The keys and members that are marked, and the names, which are not.
        cdef bytes text = find_duplicate(
            w, marked, [self._alone(key, place) for key in keys if _is_name(key)])
        if text is not None:
            raise EncodeError(
                "expected distinct keys or members, got "
                f"{text[:80].decode('utf-8', 'replace')} again")
        return 0

    # -- the rarer types --

    cdef uint8_t* _other(self, EncodeState* w, uint8_t* at, object value, int place) except NULL:
        cdef object kind = type(value)
        cdef Shape shape
        if kind is float or value is None or kind is bool:
            return self._value(w, at, <PyObject*>value)
        if kind is Symbol:
            return write_symbol(&w.output, at, value)
        if kind is Char:
            return write_character(&w.output, at, value)
        if kind is List:
            at[0] = c'('
            return self._members(w, at + 1, <PyObject*>value, c')')
        if kind is set or kind is frozenset:
            return self._set(w, at, value)
        if kind is FrozenDict:
            return self._map(w, at, <PyObject*>value, self.keyword_keys)
        if kind is StrDict or kind is FrozenStrDict:
            return self._map(w, at, <PyObject*>value, False)
        if kind is Tagged:
            if not self.tagged:
                return self._convert(
                    w, at, value, place, "a value (or tagged=True at both ends)")
            return self._tagged(w, at, value)
        if kind is UUID:
            return self._uuid(w, at, value)
        if kind is datetime:
            return self._moment(w, at, value, place)
        shape = shape_of(kind)
        if shape.kind == records.DECIMAL:
            if not value.is_finite():
                return self._convert(w, at, value, place, "a finite Decimal")
            return write_decimal(&w.output, at, value)
        if shape.kind == records.RATIO:
            if value.denominator == 1:
                return write_int(&w.output, at, value.numerator)
            return write_fraction(&w.output, at, value)
        if shape.kind == records.UNKNOWN:
            return self._convert(
                w, at, value, place,
                f"a value that edn has a form for ({hint_of(value)})" if self.default is None
                else "a value that edn has a form for")
        w.converted += 1
        return self._based(w, at, value, shape, place)

    cdef uint8_t* _based(
            self, EncodeState* w, uint8_t* at, object value, Shape shape, int place) except NULL:
        # A subclass as its base, an Enum as its value, a record as the map of its fields.
        cdef int kind = shape.kind
        if kind == records.ENUM:
            return self._again(w, at, value.value, place)
        if kind == records.TEXT:
            if place == KEYWORD_KEY:
                return write_keyword(&w.output, at, value, True)
            return write_string(&w.output, at, value)
        if kind == records.WHOLE:
            return write_int(&w.output, at, value)
        if kind == records.REAL:
            return self._float(w, at, <double>value)
        if kind == records.MAP or kind == records.STRING_MAP:
            value = dict(value)     # an OrderedDict has an order of its own
            return self._map(
                w, at, <PyObject*>value, self.keyword_keys and kind == records.MAP)
        if kind == records.SEQUENCE:
            at[0] = c'['
            return self._members(w, at + 1, <PyObject*>value, c']')
        if kind == records.SET:
            return self._set(w, at, value)
        if kind == records.MOMENT:
            return self._moment(w, at, value, place)
        if kind == records.UUID_VALUE:
            return self._uuid(w, at, value)
        value = shape.fields(value)
        if shape.is_root:
            return self._again(w, at, value, place)
        return self._map(w, at, <PyObject*>value, True)     # field names, whatever keys= says

    cdef uint8_t* _float(self, EncodeState* w, uint8_t* at, double value) except NULL:
        w.converted += value != value   # two NaN are one in edn, inside a tuple too
        return write_float(&w.output, at, value)

    cdef uint8_t* _uuid(self, EncodeState* w, uint8_t* at, object value) except NULL:
        enter(w)      # the string behind the tag counts, as in the reader
        w.depth -= 1
        return write_uuid(&w.output, at, value)

    cdef uint8_t* _moment(self, EncodeState* w, uint8_t* at, object value, int place) except NULL:
        enter(w)      # as of a UUID
        w.depth -= 1
        moment = in_utc(w, value)
        if moment is None:
            return self._convert(w, at, value, place, "a datetime with a time zone")
        return write_instant(&w.output, at, moment)

    cdef uint8_t* _convert(
            self, EncodeState* w, uint8_t* at, object value, int place, str expected) except NULL:
        if self.default is None:
            raise EncodeError(f"expected {expected}, got {shown_value(value)}")
        return self._again(w, at, self.default(value), place)

    cdef uint8_t* _again(self, EncodeState* w, uint8_t* at, object value, int place) except NULL:
        # What stands for another value.
        hop(w, value)
        if place == VALUE:
            at = self._value(w, at, <PyObject*>value)
        else:
            at = self._key(w, at, value, place == KEYWORD_KEY)
        w.hops -= 1
        return at


# -- the door --

cdef Writer PLAIN = Writer()


cdef str hint_of(value):
    # How a value without a form may be written after all; `packers.EDN` is for a channel.
    if isinstance(value, (date, time, timedelta)):
        return "or default=edn.iso, as in packers.EDN(default=edn.iso)"
    return "or default=, as in packers.EDN(default=...)"


@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
def dumps(value, *, keys="keyword", default=None):
    """
    Return value as edn, UTF-8.

    `default` is given each value that edn has no form for, and returns one that can be written.
    Raises EncodeError, with the path to the value, if it cannot be written.
    """
    if default is None and keys == "keyword":
        return PLAIN.encode(value)
    return Writer(keys, default).encode(value)
