# One value to its edn spelling: names, strings, characters, numbers, #inst, #uuid; as Clojure's
# pr-str spells it. No collection. Names are checked, so that what is written reads as one form.

from uuid import UUID

from cpython.datetime cimport (
    datetime_day, datetime_hour, datetime_microsecond, datetime_minute, datetime_month,
    datetime_second, datetime_year, import_datetime)
from cpython.mem cimport PyMem_Free
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from chansock._fast.buffer cimport WriteBuffer
from chansock._fast.edn_tokens cimport IN_TOKEN, KIND, fault_text, is_high_blank, name_fault

from chansock.errors import EdnEncodeError
from chansock.values import Keyword

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

cdef dict CHARACTERS = {
    "\n": b"\\newline", " ": b"\\space", "\t": b"\\tab", "\r": b"\\return",
    "\b": b"\\backspace", "\f": b"\\formfeed",
}

# Keyword names that were checked, by hash: owned strings. Bounded, since callers choose them.
cdef enum:
    CHECKED_NAMES = 2048
    LONGEST_CACHED = 64     # characters

cdef PyObject* CHECKED[CHECKED_NAMES]


# -- for messages --

cdef str shown_value(object value):
    # By repr, cut; of a collection only type and length, for it may be large or deep.
    cdef str text
    if isinstance(value, (dict, list, tuple, set, frozenset)):
        return f"a {type(value).__name__} of {len(value)}"
    try:
        text = repr(value[:80] if isinstance(value, (str, bytes)) and len(value) > 80 else value)
    except Exception:       # a repr of the caller's, or an integer past CPython's limit
        return f"a {type(value).__name__}"
    return text if len(text) <= 80 else text[:80] + "..."


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
    cdef str trouble
    CHSK_READY(name)
    trouble = _name_trouble(name, False)
    if trouble is not None:
        raise EdnEncodeError(f"expected {what}, got {shown_value(name)}: {trouble}")
    if (PyUnicode_GET_LENGTH(name) <= LONGEST_CACHED
            and (type(name) is str or type(name) is Keyword)):
        slot = <Py_ssize_t>(<size_t>PyObject_Hash(name) & (CHECKED_NAMES - 1))
        old = CHECKED[slot]
        Py_INCREF(name)
        CHECKED[slot] = <PyObject*>name
        Py_XDECREF(old)
    return 0


cdef int write_keyword(WriteBuffer out, object name, bint is_key) except -1:
    # Another subclass may hash and compare as it likes, so it never meets the cache.
    if (type(name) is not str and type(name) is not Keyword) or not _is_checked(name):
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


cdef int write_symbol(WriteBuffer out, object name) except -1:
    cdef str trouble
    CHSK_READY(name)
    trouble = _name_trouble(name, True)
    if trouble is not None:
        raise EdnEncodeError(f"expected a symbol's name, got {shown_value(name)}: {trouble}")
    return _plain(out, name)


cdef int write_tag(WriteBuffer out, object tag) except -1:
    # With its `#`. Clojure's reader wants a Latin-1 letter first.
    cdef str trouble
    if not isinstance(tag, str):
        raise EdnEncodeError(f"expected a str as tag, got {shown_value(tag)}")
    CHSK_READY(tag)
    trouble = _name_trouble(tag, True)
    if trouble is None and not (ord(tag[0]) < 256 and tag[0].isalpha()):
        trouble = "it begins with no letter"
    if trouble is not None:
        raise EdnEncodeError(f"expected a tag, got {shown_value(tag)}: {trouble}")
    out.put_byte(c'#')
    return _plain(out, tag)


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


cdef int write_character(WriteBuffer out, object value) except -1:
    cdef uint32_t point
    CHSK_READY(value)
    if PyUnicode_GET_LENGTH(value) == 1:
        point = PyUnicode_READ(PyUnicode_KIND(value), PyUnicode_DATA(value), 0)
        if point <= 0xFFFF and not 0xD800 <= point <= 0xDFFF:
            if value in CHARACTERS:
                return out.put_bytes(CHARACTERS[value])
            out.put_byte(c'\\')
            return _plain(out, value)
    raise EdnEncodeError(f"expected a Char of one UTF-16 unit, got {shown_value(value)}")


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


cdef int write_decimal(WriteBuffer out, object value) except -1:
    cdef str text
    if not value:
        value = value.copy_abs()    # java.math.BigDecimal has no -0
    text = str(value).upper()       # the context of the thread may make it a small e
    if "E" in text and abs(<object>value.as_tuple().exponent) > MAX_SCALE:
        raise EdnEncodeError(
            f"expected a decimal with an exponent of 32 bits, got {shown_value(value)}")
    _plain(out, text)
    return out.put_byte(c'M')


cdef int write_fraction(WriteBuffer out, object value) except -1:
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


cdef int write_instant(WriteBuffer out, object moment) except -1:
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


cdef int write_uuid(WriteBuffer out, object value) except -1:
    out.put(b'#uuid "', 7)
    _plain(out, UUID.__str__(value))
    return out.put_byte(c'"')
