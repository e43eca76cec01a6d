# Python values to edn text: what each type becomes, and the collections. Nothing is written that
# another reader would take for something else; what has no edn form is refused with the path
# that leads to it.

from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from uuid import UUID

cimport cython
from cpython.datetime cimport PyDateTime_Check, datetime_tzinfo, get_utc, import_datetime
from libc.stdint cimport uint8_t

from chansock._fast.buffer cimport WriteBuffer
from chansock._fast.edn_spelling cimport (
    shown_value, write_character, write_decimal, write_float, write_fraction, write_instant,
    write_int, write_keyword, write_string, write_symbol, write_tag, write_uuid)

from chansock.errors import ConfigError, EdnEncodeError
from chansock.values import Char, FrozenDict, FrozenStrDict, Keyword, List, StrDict, Symbol, Tagged

import_datetime()

cdef int DEEPEST = 2000             # a level costs some 500 bytes of C stack

# Where a value stands.
cdef enum:
    VALUE = 0
    KEYWORD_KEY = 1     # a map key, and a plain str is a keyword there
    STRING_KEY = 2


cdef str _step(object key):
    # One step of a path: `[3]`, `["user"]`.
    if type(key) is str:
        text = repr(key[:80])
        return f'["{text[1:len(text) - 1]}"]'
    return f"[{shown_value(key)}]"


cdef int _lengthen(object error, str step) except -1:
    # One step more at the front of the path, on the way out.
    error.path = step + error.path
    error.args = (error.message, error.path)
    return 0


# -- the writer --

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
        """Return value as edn, UTF-8; raises EdnEncodeError if it has no edn form."""
        cdef WriteBuffer out = WriteBuffer.__new__(WriteBuffer)
        self.write(out, value)
        return out.take()

    cdef int write(self, WriteBuffer out, object value) except -1:
        cdef Walk w
        cdef Py_ssize_t start = out.size
        w.depth = 0
        w.converted = 0
        w.hops = 0
        try:
            return self._value(out, value, &w)
        except BaseException:
            out.cut(start)
            raise

    cdef int _value(self, WriteBuffer out, object value, Walk* w) except -1:
        # Exact types first, the commonest at the top.
        cdef object kind = type(value)
        if kind is str:
            return write_string(out, value)
        if kind is dict:
            return self._map(out, <dict>value, w, self.keyword_keys)
        if kind is int:
            return write_int(out, value)
        if value is None:
            return out.put(b"nil", 3)
        if kind is Keyword:
            return write_keyword(out, value, False)
        if kind is list or kind is tuple:
            out.put_byte(c'[')
            return self._members(out, value, c']', w)
        if kind is float:
            return write_float(out, <double>value)
        if value is True:
            return out.put(b"true", 4)
        if value is False:
            return out.put(b"false", 5)
        if kind is StrDict:
            return self._map(out, <dict>value, w, False)
        return self._other(out, value, w, VALUE)

    cdef int _key(self, WriteBuffer out, object key, Walk* w, bint keyword_keys) except -1:
        cdef object kind = type(key)
        if kind is str:
            return write_keyword(out, key, True) if keyword_keys else write_string(out, key)
        if kind is Keyword:
            return write_keyword(out, key, True)
        if kind is int or kind is tuple:
            return self._value(out, key, w)
        return self._other(out, key, w, KEYWORD_KEY if keyword_keys else STRING_KEY)

    cdef int _other(self, WriteBuffer out, object value, Walk* w, int place) except -1:
        # The rarer types, then subclasses: each is written as its base.
        cdef object kind = type(value)
        if kind is float or value is None or kind is bool:
            return self._value(out, value, w)
        if kind is Symbol:
            return write_symbol(out, value)
        if kind is Char:
            return write_character(out, value)
        if kind is List:
            out.put_byte(c'(')
            return self._members(out, value, c')', w)
        if kind is set or kind is frozenset:
            return self._set(out, value, w)
        if kind is FrozenDict:
            return self._map(out, <dict>value, w, self.keyword_keys)
        if kind is FrozenStrDict:
            return self._map(out, <dict>value, w, False)
        if kind is Tagged:
            if not self.tagged:
                return self._convert(out, value, w, place, "a value (or tagged=True at both ends)")
            return self._tagged(out, value, w)
        if kind is UUID:
            return write_uuid(out, value)
        if kind is datetime:
            return self._moment(out, value, w, place)
        if isinstance(value, Enum):
            return self._again(out, value.value, w, place)
        if isinstance(value, str):
            w.converted += 1
            if place == KEYWORD_KEY:
                return write_keyword(out, value, True)
            return write_string(out, value)
        if isinstance(value, int):
            w.converted += 1
            return write_int(out, value)
        if isinstance(value, float):
            w.converted += 1
            return write_float(out, <double>value)
        if isinstance(value, dict):
            w.converted += 1
            return self._map(
                out, <dict>value, w, self.keyword_keys and not isinstance(value, StrDict))
        if isinstance(value, (list, tuple)):
            w.converted += 1
            out.put_byte(c'[')
            return self._members(out, value, c']', w)
        if isinstance(value, (set, frozenset)):
            w.converted += 1
            return self._set(out, value, w)
        if PyDateTime_Check(value):
            w.converted += 1
            return self._moment(out, value, w, place)
        if isinstance(value, UUID):
            w.converted += 1
            return write_uuid(out, value)
        if isinstance(value, Decimal):
            if not value.is_finite():
                return self._convert(out, value, w, place, "a finite Decimal")
            return write_decimal(out, value)
        if isinstance(value, Fraction):
            if value.denominator == 1:
                return write_int(out, value.numerator)
            return write_fraction(out, value)
        return self._convert(
            out, value, w, place,
            "a value that edn has a form for (or default=)" if self.default is None
            else "a value that edn has a form for")

    cdef int _moment(self, WriteBuffer out, object value, Walk* w, int place) except -1:
        if datetime_tzinfo(value) is get_utc():
            return write_instant(out, value)
        if value.utcoffset() is None:
            return self._convert(out, value, w, place, "a datetime with a time zone")
        try:
            value = value.astimezone(get_utc())
        except OverflowError:
            raise EdnEncodeError(
                f"expected a time in the years 1 to 9999 of UTC, got {shown_value(value)}"
            ) from None
        return write_instant(out, value)

    cdef int _convert(
            self, WriteBuffer out, object value, Walk* w, int place, str expected) except -1:
        if self.default is None:
            raise EdnEncodeError(f"expected {expected}, got {shown_value(value)}")
        return self._again(out, self.default(value), w, place)

    cdef int _again(self, WriteBuffer out, object value, Walk* w, int place) except -1:
        # What stands for another value.
        w.converted += 1
        w.hops += 1
        if w.hops > self.max_depth:
            raise EdnEncodeError(
                f"expected default= to end at a writable value, got {shown_value(value)}")
        if place == VALUE:
            self._value(out, value, w)
        else:
            self._key(out, value, w, place == KEYWORD_KEY)
        w.hops -= 1
        return 0

    cdef int _enter(self, Walk* w) except -1:
        if w.depth >= self.max_depth:
            raise EdnEncodeError(
                f"expected at most {self.max_depth} forms around a form, got more")
        w.depth += 1
        return 0

    cdef int _members(self, WriteBuffer out, object members, uint8_t close, Walk* w) except -1:
        # Behind the opening bracket: forms with a space between.
        cdef Py_ssize_t i = 0
        if members:
            self._enter(w)
            try:
                for member in members:
                    if i:
                        out.put_byte(c' ')
                    self._value(out, member, w)
                    i += 1
            except EdnEncodeError as error:
                _lengthen(error, f"[{i}]")
                raise
            w.depth -= 1
        return out.put_byte(close)

    cdef int _set(self, WriteBuffer out, object members, Walk* w) except -1:
        cdef Py_ssize_t converted = w.converted
        cdef bint is_first = True
        cdef object member = None
        out.put(b"#{", 2)
        if members:
            self._enter(w)
            try:
                for member in members:
                    if not is_first:
                        out.put_byte(c' ')
                    is_first = False
                    self._value(out, member, w)
                    if member != member:
                        w.converted += 1    # NaN: two of them are one in edn
            except EdnEncodeError as error:
                _lengthen(error, _step(member))
                raise
            if w.converted != converted and len(members) > 1:
                self._distinct(members, VALUE)
            w.depth -= 1
        return out.put_byte(c'}')

    cdef int _map(self, WriteBuffer out, dict value, Walk* w, bint keyword_keys) except -1:
        cdef Py_ssize_t converted = 0, before
        cdef bint is_first = True
        cdef object key = None, item
        out.put_byte(c'{')
        if value:
            self._enter(w)
            try:
                for key, item in value.items():
                    if not is_first:
                        out.put(b", ", 2)
                    is_first = False
                    if type(key) is str and keyword_keys:
                        write_keyword(out, key, True)
                    else:
                        before = w.converted
                        self._key(out, key, w, keyword_keys)
                        converted += w.converted - before
                        if key != key:
                            converted += 1
                    out.put_byte(c' ')
                    self._value(out, item, w)
            except EdnEncodeError as error:
                _lengthen(error, _step(key))
                raise
            if converted and len(value) > 1:
                self._distinct(value, KEYWORD_KEY if keyword_keys else STRING_KEY)
            w.depth -= 1
        return out.put_byte(c'}')

    cdef int _distinct(self, object keys, int place) except -1:
        # Two keys that differ in Python may be one in edn: an Enum and its value, two NaN.
        cdef WriteBuffer out = WriteBuffer.__new__(WriteBuffer)
        cdef set texts = set()
        cdef Walk w
        for key in keys:
            w.depth = 0
            w.converted = 0
            w.hops = 0
            if place == VALUE:
                self._value(out, key, &w)
            else:
                self._key(out, key, &w, place == KEYWORD_KEY)
            text = out.take()
            if text in texts:
                raise EdnEncodeError(
                    f"expected distinct keys or members, got {shown_value(key)} again")
            texts.add(text)
        return 0

    cdef int _tagged(self, WriteBuffer out, object value, Walk* w) except -1:
        write_tag(out, value.tag)
        out.put_byte(c' ')
        self._enter(w)
        self._value(out, value.value, w)
        w.depth -= 1
        return 0
