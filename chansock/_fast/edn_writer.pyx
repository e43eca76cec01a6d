# Python values to edn text, spelled as Clojure's pr-str spells it. Nothing is written that
# another reader would take for something else: names are checked, and what has no edn form
# is refused with the path that leads to it.

from uuid import UUID

cimport cython
from cpython.datetime cimport (
    PyDateTime_Check, datetime_day, datetime_hour, datetime_microsecond, datetime_minute,
    datetime_month, datetime_second, datetime_tzinfo, datetime_year, get_utc, import_datetime)
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy, strlen

from chansock._fast.buffer cimport WriteBuffer
from chansock._fast.edn_tokens cimport (
    IN_TOKEN, KIND, code_point, fault_text, is_high_blank, name_fault)

from enum import Enum

from chansock.errors import ConfigError, EdnEncodeError
from chansock.values import Char, FrozenDict, FrozenStrDict, Keyword, List, StrDict, Symbol, Tagged

cdef extern from *:
    """
    /* Strings made by the old Py_UNICODE functions are not ready before 3.12. */
    #if PY_VERSION_HEX < 0x030C0000
    #define CHSK_READY(s) (PyUnicode_READY(s))
    #else
    #define CHSK_READY(s) (0)
    #endif
    """
    int CHSK_READY(object text) except -1

cdef extern from "Python.h":
    void* PyUnicode_DATA(object text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(object text) noexcept
    bint PyUnicode_IS_ASCII(object text) noexcept
    int PyUnicode_KIND(object text) noexcept
    uint32_t PyUnicode_READ(int kind, void* data, Py_ssize_t index) noexcept
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint Py_UNICODE_ISDECIMAL(uint32_t point) noexcept
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    char* PyOS_double_to_string(double value, char code, int precision, int flags, int* kind) \
        except NULL
    Py_hash_t PyObject_Hash(object value) except -1

import_datetime()

cdef Py_ssize_t MAX_DIGITS = 4300   # the reader takes no more
cdef long long MAX_SCALE = 2147483647   # java.math.BigDecimal's
cdef int DEEPEST = 2000             # a level costs some 500 bytes of C stack

cdef object _Decimal = None         # imported when an unknown type comes by
cdef object _Fraction = None

# Where a value stands.
cdef enum:
    VALUE = 0
    KEYWORD_KEY = 1     # a map key, and a plain str is a keyword there
    STRING_KEY = 2

# Keyword names that were checked, by hash: owned strings. Bounded, since callers choose them.
cdef enum:
    CHECKED_NAMES = 2048
    LONGEST_CACHED = 64     # characters

cdef PyObject* CHECKED[CHECKED_NAMES]


# -- names --

cdef str _name_trouble(object name, bint is_symbol):
    # Why edn has no such name; None: it has. Stricter than the reader, which must take
    # what others write: only what Clojure, tools.reader and ClojureScript all read.
    cdef Py_ssize_t i, size = PyUnicode_GET_LENGTH(name)
    cdef int kind = PyUnicode_KIND(name), fault
    cdef void* data = PyUnicode_DATA(name)
    cdef const uint8_t* text
    cdef uint32_t point, before = c'/'
    for i in range(size):
        point = PyUnicode_READ(kind, data, i)
        if (point < 0x80 and KIND[point] != IN_TOKEN or point < 0x20 or 0x7F <= point <= 0xA0
                or 0xD800 <= point <= 0xDFFF or point == 0xFEFF or point == 0x2007
                or point == 0x202F or is_high_blank(<int>point)):
            return f"it has a {chr(point)!r}"
        if before == c'/' and i and Py_UNICODE_ISDECIMAL(point):
            return "a digit follows its slash"
        before = point
    text = <const uint8_t*>PyUnicode_AsUTF8AndSize(name, &size)
    fault = name_fault(text, size)
    if fault:
        return fault_text(fault)
    if is_symbol:
        if name == "nil" or name == "true" or name == "false":
            return "it is a constant"
        point = PyUnicode_READ(kind, data, 0)
        if (point == c'+' or point == c'-') and PyUnicode_GET_LENGTH(name) > 1:
            point = PyUnicode_READ(kind, data, 1)
        if Py_UNICODE_ISDECIMAL(point):
            return "it begins like a number"
        if text[0] == c'#':
            return "it begins with '#'"
    return None


cdef bint _is_checked(object name) except -1:
    # A keyword name seen before: by identity, or by equal text.
    cdef PyObject* known = CHECKED[<size_t>PyObject_Hash(name) & (CHECKED_NAMES - 1)]
    if known == <PyObject*>name:
        return True
    if known is NULL or not PyUnicode_IS_ASCII(name) or not PyUnicode_IS_ASCII(<object>known):
        return False
    return (PyUnicode_GET_LENGTH(name) == PyUnicode_GET_LENGTH(<object>known)
            and memcmp(PyUnicode_DATA(name), PyUnicode_DATA(<object>known),
                       <size_t>PyUnicode_GET_LENGTH(name)) == 0)


cdef int _check(object name, str what) except -1:
    # Refuse a name that is no keyword's, and remember one that is.
    cdef Py_ssize_t slot
    cdef PyObject* old
    cdef str trouble = _name_trouble(name, False)
    if trouble is not None:
        raise EdnEncodeError(f"expected {what}, got {_cut(name)}: {trouble}")
    if PyUnicode_GET_LENGTH(name) <= LONGEST_CACHED and (type(name) is str or type(name) is Keyword):
        slot = <Py_ssize_t>(<size_t>PyObject_Hash(name) & (CHECKED_NAMES - 1))
        old = CHECKED[slot]
        Py_INCREF(name)
        CHECKED[slot] = <PyObject*>name
        Py_XDECREF(old)
    return 0


cdef int _keyword(WriteBuffer out, object name, bint is_key) except -1:
    if not _is_checked(name):
        CHSK_READY(name)
        _check(name, "a keyword's name as map key (StrDict writes strings)" if is_key
               else "a keyword's name")
    out.put_byte(c':')
    return _plain(out, name)


cdef int _plain(WriteBuffer out, object text) except -1:
    # The characters as they are, UTF-8.
    cdef Py_ssize_t size = 0
    cdef const char* data
    if PyUnicode_IS_ASCII(text):
        return out.put(PyUnicode_DATA(text), PyUnicode_GET_LENGTH(text))
    data = PyUnicode_AsUTF8AndSize(text, &size)
    return out.put(data, size)


cdef int _symbol(WriteBuffer out, object name) except -1:
    cdef str trouble
    CHSK_READY(name)
    trouble = _name_trouble(name, True)
    if trouble is not None:
        raise EdnEncodeError(f"expected a symbol's name, got {_cut(name)}: {trouble}")
    return _plain(out, name)


# -- strings and characters --

cdef inline uint8_t _escape_of(uint32_t point) noexcept:
    # The letter behind the backslash; 0: the character stands as it is.
    if point == c'"' or point == c'\\':
        return <uint8_t>point
    if point == c'\n':
        return c'n'
    if point == c'\t':
        return c't'
    if point == c'\r':
        return c'r'
    if point == 12:
        return c'f'
    if point == 8:
        return c'b'
    return 0


cdef inline bint _is_plain(uint64_t word) noexcept:
    # Eight ASCII bytes without quote, backslash or control character.
    cdef uint64_t ones = 0x0101010101010101U
    cdef uint64_t quote = word ^ (ones * c'"')
    cdef uint64_t slash = word ^ (ones * c'\\')
    return (((word - ones * 0x20) | (quote - ones) | (slash - ones)) & (ones << 7)) == 0


cdef int write_string(WriteBuffer out, object text) except -1:
    cdef Py_ssize_t size, at = 0, start = 0
    cdef const uint8_t* data
    cdef uint64_t word
    cdef uint8_t letter
    CHSK_READY(text)
    if not PyUnicode_IS_ASCII(text):
        return _wide_string(out, text)
    size = PyUnicode_GET_LENGTH(text)
    data = <const uint8_t*>PyUnicode_DATA(text)
    out.reserve(size + 2)
    out.put_byte(c'"')
    while at < size:
        if size - at >= 8:
            memcpy(&word, data + at, 8)
            if _is_plain(word):
                at += 8
                continue
        letter = _escape_of(data[at])
        if letter:
            out.put(data + start, at - start)
            out.put_byte(c'\\')
            out.put_byte(letter)
            start = at + 1
        at += 1
    out.put(data + start, size - start)
    return out.put_byte(c'"')


cdef int _wide_string(WriteBuffer out, object text) except -1:
    cdef Py_ssize_t i, size = PyUnicode_GET_LENGTH(text)
    cdef int kind = PyUnicode_KIND(text)
    cdef void* data = PyUnicode_DATA(text)
    cdef uint8_t letter
    cdef uint32_t point
    out.reserve(size * 2 + 2)
    out.put_byte(c'"')
    for i in range(size):
        point = PyUnicode_READ(kind, data, i)
        if point < 0x80:
            letter = _escape_of(point)
            if letter:
                out.put_byte(c'\\')
                out.put_byte(letter)
            else:
                out.put_byte(<uint8_t>point)
        else:
            _point(out, point)
    return out.put_byte(c'"')


cdef int _point(WriteBuffer out, uint32_t point) except -1:
    # One code point past ASCII as UTF-8; half a surrogate pair, which has none, as `\ud83d`.
    cdef uint8_t* p
    cdef const char* hexadecimal = "0123456789abcdef"
    out.reserve(6)
    p = out.data + out.size
    if point < 0x800:
        p[0] = <uint8_t>(0xC0 | (point >> 6))
        p[1] = <uint8_t>(0x80 | (point & 0x3F))
        out.size += 2
    elif 0xD800 <= point <= 0xDFFF:
        p[0] = c'\\'
        p[1] = c'u'
        p[2] = c'd'
        p[3] = <uint8_t>hexadecimal[(point >> 8) & 15]
        p[4] = <uint8_t>hexadecimal[(point >> 4) & 15]
        p[5] = <uint8_t>hexadecimal[point & 15]
        out.size += 6
    elif point < 0x10000:
        p[0] = <uint8_t>(0xE0 | (point >> 12))
        p[1] = <uint8_t>(0x80 | ((point >> 6) & 0x3F))
        p[2] = <uint8_t>(0x80 | (point & 0x3F))
        out.size += 3
    else:
        p[0] = <uint8_t>(0xF0 | (point >> 18))
        p[1] = <uint8_t>(0x80 | ((point >> 12) & 0x3F))
        p[2] = <uint8_t>(0x80 | ((point >> 6) & 0x3F))
        p[3] = <uint8_t>(0x80 | (point & 0x3F))
        out.size += 4
    return 0


cdef dict CHARACTERS = {
    "\n": b"\\newline", " ": b"\\space", "\t": b"\\tab", "\r": b"\\return",
    "\b": b"\\backspace", "\f": b"\\formfeed",
}


cdef int _character(WriteBuffer out, object value) except -1:
    cdef uint32_t point
    CHSK_READY(value)
    if PyUnicode_GET_LENGTH(value) == 1:
        point = PyUnicode_READ(PyUnicode_KIND(value), PyUnicode_DATA(value), 0)
        if point <= 0xFFFF and not 0xD800 <= point <= 0xDFFF:
            if value in CHARACTERS:
                return out.put_bytes(CHARACTERS[value])
            out.put_byte(c'\\')
            return _plain(out, value)
    raise EdnEncodeError(f"expected a Char of one UTF-16 unit, got {_cut(value)}")


# -- numbers --

cdef int write_int(WriteBuffer out, object value) except -1:
    cdef int overflow = 0
    cdef int64_t small = PyLong_AsLongLongAndOverflow(value, &overflow)
    cdef uint64_t rest
    cdef uint8_t[20] digits
    cdef int at = 20
    cdef str text
    if overflow:
        text = _digits(value)
        _plain(out, text)
        return out.put_byte(c'N')
    rest = <uint64_t>small if small >= 0 else 0 - <uint64_t>small
    while True:
        at -= 1
        digits[at] = <uint8_t>(c'0' + rest % 10)
        rest //= 10
        if rest == 0:
            break
    if small < 0:
        out.put_byte(c'-')
    return out.put(digits + at, 20 - at)


cdef str _digits(object value):
    cdef str text
    try:
        text = int.__repr__(value)
    except ValueError as error:     # CPython's own limit
        raise EdnEncodeError(f"expected an integer of fewer digits, got one too long: {error}") \
            from None
    if len(text) > MAX_DIGITS + (value < 0):
        raise EdnEncodeError(
            f"expected an integer of at most {MAX_DIGITS} digits, got {len(text)}")
    return text


cdef int write_float(WriteBuffer out, double value) except -1:
    # Python's digits (the shortest that read back) in the layout of Double.toString.
    cdef char* text
    if value != value:
        return out.put(b"##NaN", 5)
    if value - value != 0:
        return out.put(b"##Inf", 5) if value > 0 else out.put(b"##-Inf", 6)
    text = PyOS_double_to_string(value, c'r', 0, 0, NULL)
    try:
        if -1e-300 < value < 1e-300 and value != 0 and text[1 + (value < 0)] == c'e':
            # Java wants two digits, and takes the nearest two: 4.9E-324
            PyMem_Free(text)
            text = NULL
            text = PyOS_double_to_string(value, c'e', 1, 0, NULL)
        return _layout(out, text)
    finally:
        PyMem_Free(text)


cdef int _layout(WriteBuffer out, const char* text) except -1:
    # `1e-05`, `12.5`, `1e+16` -> digits and a decimal exponent -> Java's layout.
    cdef char[32] digits
    cdef int count = 0, point = 0, exponent = 0, i, lead = 0
    cdef bint negative_exponent, seen = False
    cdef const char* p = text
    if p[0] == c'-':
        out.put_byte(c'-')
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
        return out.put(b"0.0", 3)
    exponent += point - lead - 1        # of the first digit that is not 0
    if -3 <= exponent < 7:
        if exponent < 0:
            out.put(b"0.000", 1 - exponent)
            return out.put(digits, count)
        for i in range(max(count, exponent + 2)):
            if i == exponent + 1:
                out.put_byte(c'.')
            out.put_byte(<uint8_t>digits[i] if i < count else <uint8_t>c'0')
        return 0
    out.put_byte(<uint8_t>digits[0])
    out.put_byte(c'.')
    out.put(digits + 1, count - 1) if count > 1 else out.put_byte(c'0')
    out.put_byte(c'E')
    return write_int(out, exponent)


cdef int _decimal(WriteBuffer out, object value) except -1:
    cdef str text
    if not value:
        value = value.copy_abs()    # java.math.BigDecimal has no -0
    text = str(value).upper()       # the context of the thread may make it a small e
    if "E" in text and abs(<object>value.as_tuple().exponent) > MAX_SCALE:
        raise EdnEncodeError(f"expected a decimal with an exponent of 32 bits, got {_cut(value)}")
    _plain(out, text)
    return out.put_byte(c'M')


cdef int _fraction(WriteBuffer out, object value) except -1:
    _plain(out, _digits(value.numerator))
    out.put_byte(c'/')
    return _plain(out, _digits(value.denominator))


# -- #inst and #uuid --

cdef int _padded(WriteBuffer out, int value, int width) except -1:
    cdef uint8_t* p
    out.reserve(width)
    p = out.data + out.size
    out.size += width
    while width:
        width -= 1
        p[width] = <uint8_t>(c'0' + value % 10)
        value //= 10
    return 0


cdef int _instant(WriteBuffer out, object moment) except -1:
    # Aware and in UTC. Milliseconds as Clojure writes them; six digits if there are more.
    cdef int micro = datetime_microsecond(moment)
    out.put(b'#inst "', 7)
    _padded(out, datetime_year(moment), 4)
    out.put_byte(c'-')
    _padded(out, datetime_month(moment), 2)
    out.put_byte(c'-')
    _padded(out, datetime_day(moment), 2)
    out.put_byte(c'T')
    _padded(out, datetime_hour(moment), 2)
    out.put_byte(c':')
    _padded(out, datetime_minute(moment), 2)
    out.put_byte(c':')
    _padded(out, datetime_second(moment), 2)
    out.put_byte(c'.')
    if micro % 1000:
        _padded(out, micro, 6)
    else:
        _padded(out, micro // 1000, 3)
    return out.put(b'-00:00"', 7)


cdef int _uuid(WriteBuffer out, object value) except -1:
    out.put(b'#uuid "', 7)
    _plain(out, UUID.__str__(value))
    return out.put_byte(c'"')


cdef str _cut(object value):
    cdef str text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."


cdef str _step(object key):
    return f'["{key}"]' if type(key) is str else f"[{_cut(key)}]"


cdef _lengthen(object error, str step):
    # One step more at the front of the path, on the way out.
    error.path = step + error.path
    error.args = (error.message, error.path)


# -- the writer --

@cython.final
cdef class Writer:
    """Writes values as edn. Options: what a str key becomes, what gives other types a form."""

    def __cinit__(self, keys="keyword", default=None, int max_depth=500):
        if keys not in ("keyword", "string"):
            raise ConfigError(f"keys: expected 'keyword' or 'string', got {keys!r}")
        if not 1 <= max_depth <= DEEPEST:
            raise ConfigError(f"max_depth: expected 1 to {DEEPEST}, got {max_depth}")
        self.keyword_keys = keys == "keyword"
        self.default = default
        self.max_depth = max_depth

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
        try:
            return self._value(out, value, &w)
        except BaseException:
            out.cut(start)
            raise

    cdef int write_keyword(self, WriteBuffer out, object name) except -1:
        return _keyword(out, name, False)

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
            return _keyword(out, value, False)
        if kind is list or kind is tuple:
            out.put_byte(c'[')
            return self._members(out, value, "]", w)
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
            return _keyword(out, key, True) if keyword_keys else write_string(out, key)
        if kind is Keyword:
            return _keyword(out, key, True)
        if kind is int or kind is tuple:
            return self._value(out, key, w)
        return self._other(out, key, w, KEYWORD_KEY if keyword_keys else STRING_KEY)

    cdef int _other(self, WriteBuffer out, object value, Walk* w, int place) except -1:
        # The rarer types, then subclasses: each is written as its base.
        cdef object kind = type(value)
        if kind is float or value is None or kind is bool:
            return self._value(out, value, w)
        if kind is Symbol:
            return _symbol(out, value)
        if kind is Char:
            return _character(out, value)
        if kind is List:
            out.put_byte(c'(')
            return self._members(out, value, ")", w)
        if kind is set or kind is frozenset:
            return self._set(out, value, w)
        if kind is FrozenDict:
            return self._map(out, <dict>value, w, self.keyword_keys)
        if kind is FrozenStrDict:
            return self._map(out, <dict>value, w, False)
        if kind is Tagged:
            return self._tagged(out, value, w)
        if kind is UUID:
            return _uuid(out, value)
        w.converted += 1
        if isinstance(value, Enum):
            return self._again(out, value.value, w, place)
        if isinstance(value, str):
            if place == KEYWORD_KEY:
                return _keyword(out, value, True)
            return write_string(out, value)
        if isinstance(value, int):
            return write_int(out, value)
        if isinstance(value, float):
            return write_float(out, <double>value)
        if isinstance(value, dict):
            return self._map(
                out, <dict>value, w, self.keyword_keys and not isinstance(value, StrDict))
        if isinstance(value, (list, tuple)):
            out.put_byte(c'[')
            return self._members(out, value, "]", w)
        if isinstance(value, (set, frozenset)):
            return self._set(out, value, w)
        if PyDateTime_Check(value):
            if datetime_tzinfo(value) is None or value.utcoffset() is None:
                return self._convert(out, value, w, place, "a datetime with a time zone")
            if datetime_tzinfo(value) is not get_utc():
                try:
                    value = value.astimezone(get_utc())
                except OverflowError:
                    raise EdnEncodeError(
                        f"expected a time in the years 1 to 9999 of UTC, got {_cut(value)}"
                    ) from None
            return _instant(out, value)
        if isinstance(value, UUID):
            return _uuid(out, value)
        return self._number(out, value, w, place)

    cdef int _number(self, WriteBuffer out, object value, Walk* w, int place) except -1:
        # Types whose modules are imported only when something unknown comes by.
        global _Decimal, _Fraction
        if _Decimal is None:
            from decimal import Decimal as _Decimal
            from fractions import Fraction as _Fraction
        if isinstance(value, _Decimal):
            if not value.is_finite():
                return self._convert(out, value, w, place, "a finite Decimal")
            return _decimal(out, value)
        if isinstance(value, _Fraction):
            if value.denominator == 1:
                return write_int(out, value.numerator)
            return _fraction(out, value)
        return self._convert(
            out, value, w, place,
            "a value that edn has a form for (or default=)" if self.default is None
            else "a value that edn has a form for")

    cdef int _convert(
            self, WriteBuffer out, object value, Walk* w, int place, str expected) except -1:
        if self.default is None:
            raise EdnEncodeError(f"expected {expected}, got {_cut(value)}")
        return self._again(out, self.default(value), w, place)

    cdef int _again(self, WriteBuffer out, object value, Walk* w, int place) except -1:
        # What stands for another value; depth bounds a default= that runs in a circle.
        self._enter(w)
        if place == VALUE:
            self._value(out, value, w)
        else:
            self._key(out, value, w, place == KEYWORD_KEY)
        w.depth -= 1
        return 0

    cdef int _enter(self, Walk* w) except -1:
        if w.depth >= self.max_depth:
            raise EdnEncodeError(f"expected at most {self.max_depth} forms around a form, got more")
        w.depth += 1
        return 0

    cdef int _members(self, WriteBuffer out, object members, str close, Walk* w) except -1:
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
        return out.put_byte(<uint8_t>ord(close))

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
                        _keyword(out, key, True)
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
            if place == VALUE:
                self._value(out, key, &w)
            else:
                self._key(out, key, &w, place == KEYWORD_KEY)
            text = out.take()
            if text in texts:
                raise EdnEncodeError(f"expected distinct keys or members, got {_cut(key)} again")
            texts.add(text)
        return 0

    cdef int _tagged(self, WriteBuffer out, object value, Walk* w) except -1:
        cdef str tag = value.tag
        cdef str trouble
        CHSK_READY(tag)
        trouble = _name_trouble(tag, True)
        if trouble is None and not (ord(tag[0]) < 256 and tag[0].isalpha()):
            trouble = "it begins with no letter"    # Clojure takes those of Latin-1
        if trouble is not None:
            raise EdnEncodeError(f"expected a tag, got {_cut(tag)}: {trouble}")
        out.put_byte(c'#')
        _plain(out, tag)
        out.put_byte(c' ')
        self._enter(w)
        self._value(out, value.value, w)
        w.depth -= 1
        return 0
