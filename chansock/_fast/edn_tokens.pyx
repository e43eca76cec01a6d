# One edn token to its value: numbers, characters, names, #inst, #uuid. No collection, no map.
# The rules are those of Clojure's and tools.reader's edn readers, run, not read about; where
# the two differ, the side that refuses.

from uuid import UUID, SafeUUID

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.datetime cimport datetime_new, get_utc, import_datetime, timedelta_new
from cpython.long cimport PyLong_FromLongLong
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memchr, memcmp

from chansock.errors import EdnDecodeError
from chansock.values import Char

cdef extern from "Python.h":
    object PyLong_FromString(const char* text, char** end, int base)
    double PyOS_string_to_double_inf "PyOS_string_to_double"(
        const char* text, char** end, void* overflow) except? -1.0
    bint Py_UNICODE_ISDECIMAL(Py_UCS4 point) noexcept
    int Py_UNICODE_TODECIMAL(Py_UCS4 point) noexcept
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    void* PyUnicode_DATA(object text) noexcept
    bint PyUnicode_IS_ASCII(object text) noexcept
    int PyObject_GenericSetAttr(object owner, object name, object value) except -1

import_datetime()

cdef Py_ssize_t MAX_DIGITS = 4300   # CPython's own default: int(text) is quadratic
cdef long long MAX_SCALE = 2147483647   # java.math.BigDecimal's

# 10^22 is the largest power of ten that a double holds exactly
cdef double* POWERS = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15]

cdef dict CHARACTERS = {
    "newline": "\n", "space": " ", "tab": "\t", "return": "\r", "backspace": "\b",
    "formfeed": "\f",
}
cdef object UNKNOWN = SafeUUID.unknown
cdef object _Decimal = None     # imported on first use: few programs need them
cdef object _Fraction = None


# -- errors --

cdef int fail(Source* s, const uint8_t* at, str message) except -1:
    cdef const uint8_t* p = s.start
    cdef Py_ssize_t line = 1, column = 1
    while p < at:
        if p[0] == c'\n':
            line += 1
            column = 1
        elif (p[0] & 0xC0) != 0x80:
            column += 1
        p += 1
    raise EdnDecodeError(message, at - s.start, line, column)


cdef str shown(Source* s, const uint8_t* at):
    cdef Py_ssize_t size = min(s.end - at, 160)
    cdef str text = PyUnicode_DecodeUTF8(<const char*>at, size, "replace")
    if size == 0:
        return "the end"
    return repr(text) if len(text) <= 40 else repr(text[:40]) + "..."


# -- characters and names --

cdef int code_point(const uint8_t* p, const uint8_t* end, int* width) noexcept:
    # RFC 3629: no surrogates, nothing past U+10FFFF, no longer form than needed
    cdef Py_ssize_t left = end - p
    cdef int a = p[0]
    if a < 0x80:
        width[0] = 1
        return a
    if 0xC2 <= a <= 0xDF:
        if left < 2 or (p[1] & 0xC0) != 0x80:
            return -1
        width[0] = 2
        return ((a & 0x1F) << 6) | (p[1] & 0x3F)
    if 0xE0 <= a <= 0xEF:
        if left < 3 or (p[1] & 0xC0) != 0x80 or (p[2] & 0xC0) != 0x80:
            return -1
        if (a == 0xE0 and p[1] < 0xA0) or (a == 0xED and p[1] > 0x9F):
            return -1
        width[0] = 3
        return ((a & 0x0F) << 12) | ((p[1] & 0x3F) << 6) | (p[2] & 0x3F)
    if 0xF0 <= a <= 0xF4:
        if (left < 4 or (p[1] & 0xC0) != 0x80 or (p[2] & 0xC0) != 0x80
                or (p[3] & 0xC0) != 0x80):
            return -1
        if (a == 0xF0 and p[1] < 0x90) or (a == 0xF4 and p[1] > 0x8F):
            return -1
        width[0] = 4
        return (((a & 0x07) << 18) | ((p[1] & 0x3F) << 12) | ((p[2] & 0x3F) << 6)
                | (p[3] & 0x3F))
    return -1


cdef bint is_high_blank(int point) noexcept:
    # java.lang.Character.isWhitespace past ASCII: the no-break spaces are none
    if point < 0x1680:
        return False
    if point > 0x3000:
        return False
    return (point == 0x1680 or (0x2000 <= point <= 0x200A and point != 0x2007)
            or point == 0x2028 or point == 0x2029 or point == 0x205F or point == 0x3000)


cdef bint is_wide_digit(int point) noexcept:
    # Java sees UTF-16 units, so digits past U+FFFF are none to it
    return 0x80 <= point < 0x10000 and Py_UNICODE_ISDECIMAL(<Py_UCS4>point)


cdef const uint8_t* token_end(Source* s, const uint8_t* p) except NULL:
    cdef int kind, point, width = 1
    while p < s.end:
        kind = KIND[p[0]]
        if kind == IN_TOKEN:
            p += 1
        elif kind == HIGH:
            point = code_point(p, s.end, &width)
            if point < 0:
                fail(s, p, "expected UTF-8, got " + repr(<bytes>p[:1]))
            if is_high_blank(point):
                break
            p += width
        elif kind == NEVER:
            fail(s, p, f"expected a delimiter after a token, got {shown(s, p)}")
        else:
            break
    return p


cdef enum:
    EMPTY = 1
    COLON_FIRST
    COLON_LAST
    COLON_TWICE
    SLASH_FIRST
    SLASH_LAST
    SLASH_TWICE
    DIGIT_AFTER_SLASH


cdef int name_fault(const uint8_t* text, Py_ssize_t size) noexcept:
    cdef const uint8_t* end = text + size
    cdef const uint8_t* slash
    cdef const uint8_t* p
    cdef int width = 1
    if size == 0:
        return EMPTY
    if text[0] == c':':
        return COLON_FIRST
    if (end - 1)[0] == c':':
        return COLON_LAST
    p = <const uint8_t*>memchr(text, c':', <size_t>size)
    while p is not NULL:
        if p + 1 < end and p[1] == c':':
            return COLON_TWICE
        p = <const uint8_t*>memchr(p + 1, c':', <size_t>(end - p - 1))
    slash = <const uint8_t*>memchr(text, c'/', <size_t>size)
    if slash is NULL or size == 1:
        return 0
    if slash == text:
        return SLASH_FIRST
    if slash + 1 == end:
        return SLASH_LAST
    if (slash - 1)[0] == c':':
        return COLON_LAST
    p = slash + 1
    if p[0] == c'/':
        return 0 if p + 1 == end else SLASH_TWICE     # `ns//` names a division sign
    if memchr(p, c'/', <size_t>(end - p)) is not NULL:
        return SLASH_TWICE
    if c'0' <= p[0] <= c'9' or is_wide_digit(code_point(p, end, &width)):
        return DIGIT_AFTER_SLASH
    return 0


cdef str fault_text(int fault):
    if fault == EMPTY:
        return "it is empty"
    if fault == COLON_FIRST:
        return "it begins with a colon"
    if fault == COLON_LAST:
        return "a part of it ends with a colon"
    if fault == COLON_TWICE:
        return "it has two colons in a row"
    if fault == SLASH_FIRST:
        return "its namespace is empty"
    if fault == SLASH_LAST:
        return "nothing follows its slash"
    if fault == SLASH_TWICE:
        return "it has more than one slash"
    return "a digit follows its slash"


cdef int digit_of(int point, int base) noexcept:
    # java.lang.Character.digit: every script's digits, and full-width letters
    cdef int value = -1
    if c'0' <= point <= c'9':
        value = point - c'0'
    elif c'a' <= point <= c'z':
        value = point - c'a' + 10
    elif c'A' <= point <= c'Z':
        value = point - c'A' + 10
    elif is_wide_digit(point):
        value = Py_UNICODE_TODECIMAL(<Py_UCS4>point)
    elif 0xFF21 <= point <= 0xFF3A:
        value = point - 0xFF21 + 10
    elif 0xFF41 <= point <= 0xFF5A:
        value = point - 0xFF41 + 10
    return value if value < base else -1


cdef object read_character(Source* s):
    cdef const uint8_t* start = s.pos
    cdef const uint8_t* end
    cdef int width = 1, point, value = 0, digit
    cdef Py_ssize_t size, i
    cdef str text
    if start + 1 >= s.end:
        fail(s, start, "expected a character after the backslash, got the end")
    point = code_point(start + 1, s.end, &width)
    if point < 0:
        fail(s, start + 1, "expected UTF-8, got " + repr(<bytes>start[1:2]))
    end = token_end(s, start + 1 + width)
    s.pos = end
    if end == start + 1 + width:
        if point > 0xFFFF:
            fail(s, start, "expected a character of one UTF-16 unit, got " + shown(s, start))
        return Char(chr(point))
    text = PyUnicode_DecodeUTF8(<const char*>(start + 1), end - start - 1, NULL)
    size = len(text)
    if text in CHARACTERS:
        return Char(CHARACTERS[text])
    if text[0] == "u" and size == 5:
        for i in range(1, 5):
            digit = digit_of(<int>ord(text[i]), 16)
            if digit < 0:
                break
            value = value * 16 + digit
        else:
            if not 0xD800 <= value <= 0xDFFF:
                return Char(chr(value))
    elif text[0] == "o" and 2 <= size <= 4:
        for i in range(1, size):
            digit = digit_of(<int>ord(text[i]), 8)
            if digit < 0:
                break
            value = value * 8 + digit
        else:
            if value <= 0o377:
                return Char(chr(value))
    fail(s, start, f"expected a character, got \\{text[:40]}")


cdef int read_escape(Source* s, const uint8_t** cursor) except -1:
    # The unit that the escape stands for; the cursor moves behind it.
    cdef const uint8_t* start = cursor[0]
    cdef const uint8_t* p = start + 1
    cdef int c = p[0], value = 0, count = 0, width = 1, point, digit, base, most
    cursor[0] = p + 1
    if c == c'"' or c == c'\\':
        return c
    if c == c'n':
        return c'\n'
    if c == c't':
        return c'\t'
    if c == c'r':
        return c'\r'
    if c == c'b':
        return 8
    if c == c'f':
        return 12
    if c == c'u':
        base = 16
        most = 4
        p += 1
    else:
        point = code_point(p, s.end, &width)
        if not (c'0' <= c <= c'9' or is_wide_digit(point)):
            fail(s, start, "expected an escape in a string, got " + shown(s, start))
        base = 8
        most = 3
    while count < most and p < s.end:
        point = code_point(p, s.end, &width)
        # a short octal escape must end at a delimiter, as in Clojure
        if point >= 0x80 and is_high_blank(point):
            break
        if point < 0x80 and (KIND[p[0]] == BLANK or KIND[p[0]] == ENDS or point == c'#'):
            break
        digit = digit_of(point, base)
        if digit < 0:
            fail(s, start, f"expected digits of base {base}, got {shown(s, start)}")
        value = value * base + digit
        count += 1
        p += width
    if count == 0 or (base == 16 and count < 4) or (base == 8 and value > 0o377):
        fail(s, start, "expected an escape in a string, got " + shown(s, start))
    cursor[0] = p
    return value


# -- numbers --

cdef object read_number(Source* s):
    cdef const uint8_t* p = s.pos
    cdef const uint8_t* first
    cdef const uint8_t* point
    cdef uint64_t value = 0
    cdef Py_ssize_t digits
    cdef bint negative = p[0] == c'-'
    cdef double number
    if negative or p[0] == c'+':
        p += 1
    first = p
    while p < s.end and c'0' <= p[0] <= c'9':
        value = value * 10 + (p[0] - c'0')
        p += 1
    digits = p - first
    if digits <= 18 and (first[0] != c'0' or digits == 1):
        if p == s.end or KIND[p[0]] == BLANK or KIND[p[0]] == ENDS:
            s.pos = p
            return PyLong_FromLongLong(-<long long>value if negative else <long long>value)
    if p < s.end and p[0] == c'.' and digits <= 15:
        p += 1
        point = p
        while p < s.end and c'0' <= p[0] <= c'9':
            value = value * 10 + (p[0] - c'0')
            p += 1
        if digits + (p - point) <= 15 and (
                p == s.end or KIND[p[0]] == BLANK or KIND[p[0]] == ENDS):
            # both are exact in a double, so the quotient is the nearest one
            number = <double>value / POWERS[p - point]
            s.pos = p
            return -number if negative else number
    return _number(s)


cdef object _number(Source* s):
    # Every spelling that the quick path leaves over, by Clojure's three patterns.
    cdef const uint8_t* start = s.pos
    cdef const uint8_t* end = start
    cdef const uint8_t* p
    cdef int kind, width = 1, point
    cdef object value
    while end < s.end:
        kind = KIND[end[0]]
        if kind == HIGH:
            point = code_point(end, s.end, &width)
            if point < 0:
                fail(s, end, "expected UTF-8, got " + repr(<bytes>end[:1]))
            if is_high_blank(point):
                break
            end += width
        elif kind == BLANK or kind == ENDS or end[0] == c'#':
            break
        else:
            end += 1
    s.pos = end
    p = start
    if p[0] == c'-' or p[0] == c'+':
        p += 1
    value = _integer(s, start, p, end)
    if value is None:
        value = _ratio(s, start, p, end)
    if value is None:
        value = _decimal(s, start, p, end)
    if value is None:
        fail(s, start, "expected a number, got " + shown(s, start))
    return value


cdef const uint8_t* _digits(const uint8_t* p, const uint8_t* end, int base) noexcept:
    # Behind the run of ASCII digits of the base.
    while p < end and p[0] < 0x80 and digit_of(p[0], base) >= 0:
        p += 1
    return p


cdef object _to_int(Source* s, const uint8_t* sign, const uint8_t* p, const uint8_t* end, int base):
    # The digits were checked. `sign` is where the number starts.
    cdef bytes text = PyBytes_FromStringAndSize(<const char*>p, end - p)
    cdef object value
    if end - p > MAX_DIGITS and base & (base - 1):
        fail(s, sign, f"expected an integer of at most {MAX_DIGITS} digits, got {end - p}")
    try:
        value = PyLong_FromString(<const char*>text, NULL, base)
    except ValueError as error:     # the process has a lower limit
        fail(s, sign, f"expected a shorter integer, got {end - p} digits: {error}")
    return -value if sign[0] == c'-' else value


cdef object _integer(Source* s, const uint8_t* start, const uint8_t* p, const uint8_t* end):
    cdef const uint8_t* last = end
    cdef const uint8_t* q = _digits(p, end, 10)
    cdef int base
    if 1 <= q - p <= 2 and q < end and (q[0] | 0x20) == c'r' and p[0] != c'0':
        base = p[0] - c'0' if q - p == 1 else (p[0] - c'0') * 10 + p[1] - c'0'
        q += 1
        if not 2 <= base <= 36 or q == end or _digits(q, end, base) != end:
            return None
        return _to_int(s, start, q, end, base)
    if last > p + 1 and (last - 1)[0] == c'N':
        last -= 1
    if p[0] != c'0' or last - p == 1:
        return _to_int(s, start, p, last, 10) if q == last else None
    if last - p > 2 and (p[1] | 0x20) == c'x':
        return _to_int(s, start, p + 2, last, 16) if _digits(p + 2, last, 16) == last else None
    return _to_int(s, start, p, last, 8) if _digits(p, last, 8) == last else None


cdef object _ratio(Source* s, const uint8_t* start, const uint8_t* p, const uint8_t* end):
    global _Fraction
    cdef const uint8_t* slash = _digits(p, end, 10)
    cdef object above, below
    if slash + 1 >= end or slash[0] != c'/' or _digits(slash + 1, end, 10) != end:
        return None
    above = _to_int(s, start, p, slash, 10)
    below = _to_int(s, slash, slash + 1, end, 10)
    if not below:
        fail(s, start, "expected a ratio, got a denominator of 0")
    if not above % below:
        return above // below
    if _Fraction is None:
        from fractions import Fraction as _Fraction
    return _Fraction(above, below)


cdef object _decimal(Source* s, const uint8_t* start, const uint8_t* p, const uint8_t* end):
    # A float, or with M a Decimal.
    global _Decimal
    cdef const uint8_t* q = _digits(p, end, 10)
    cdef const uint8_t* mark
    cdef long long exponent = 0
    cdef Py_ssize_t places = 0
    cdef bint negative = False
    cdef bint is_integer = q == end
    cdef bytes text
    if q < end and q[0] == c'.':
        mark = q + 1
        q = _digits(mark, end, 10)
        places = q - mark
    if q < end and (q[0] | 0x20) == c'e':
        q += 1
        if q < end and (q[0] == c'-' or q[0] == c'+'):
            negative = q[0] == c'-'
            q += 1
        mark = q
        q = _digits(mark, end, 10)
        if q == mark:
            return None
        while mark < q:
            exponent = min(exponent * 10 + (mark[0] - c'0'), MAX_SCALE + 1)
            mark += 1
    if q == end:
        if is_integer:      # `08`: no octal, and Clojure does not take it for decimal
            return None
        text = PyBytes_FromStringAndSize(<const char*>start, end - start)
        return PyOS_string_to_double_inf(<const char*>text, NULL, NULL)
    if q + 1 != end or q[0] != c'M':
        return None
    if not -MAX_SCALE <= (-exponent if negative else exponent) - places <= MAX_SCALE:
        fail(s, start, "expected a decimal with an exponent of 32 bits, got " + shown(s, start))
    if _Decimal is None:
        from decimal import Decimal as _Decimal
    text = PyBytes_FromStringAndSize(<const char*>start, q - start)
    value = _Decimal(text.decode("ascii"))
    return value if value else value.copy_abs()     # java.math.BigDecimal has no -0


# -- #inst and #uuid --

cdef int _two(const uint8_t* p) noexcept:
    if c'0' <= p[0] <= c'9' and c'0' <= p[1] <= c'9':
        return (p[0] - c'0') * 10 + p[1] - c'0'
    return -1


cdef object instant(str text):
    # RFC 3339 and its beginnings, `2018` to `2018-03-28T10:48:00.123`, with `Z`, an offset or
    # neither (UTC). Microseconds are kept, finer digits cut.
    cdef Py_ssize_t n = len(text), i = 4
    cdef const uint8_t* p = <const uint8_t*>PyUnicode_DATA(text)    # ASCII, see below
    cdef int offset = 0, hours, minutes, year, scale = 100000
    cdef int[5] parts = [1, 1, 0, 0, 0]     # month, day, hour, minute, second
    cdef const char* before = "--T::"
    cdef int part = 0, micro = 0, leap = 0
    if not PyUnicode_IS_ASCII(text) or n < 4 or _two(p) < 0 or _two(p + 2) < 0:
        return None
    if p[n - 1] == c'Z':
        n -= 1
    elif n >= 10 and p[n - 3] == c':' and (p[n - 6] == c'+' or p[n - 6] == c'-'):
        hours = _two(p + n - 5)
        minutes = _two(p + n - 2)
        if not (0 <= hours <= 23 and 0 <= minutes <= 59):
            return None
        offset = hours * 60 + minutes
        if p[n - 6] == c'-':
            offset = -offset
        n -= 6
    year = _two(p) * 100 + _two(p + 2)
    while i < n and part < 5:
        if p[i] != <uint8_t>before[part] or i + 3 > n:
            return None
        parts[part] = _two(p + i + 1)
        if parts[part] < 0:
            return None
        part += 1
        i += 3
    if i < n:
        if p[i] != c'.' or i + 1 == n:
            return None
        i += 1
        while i < n and c'0' <= p[i] <= c'9':
            micro += scale * (p[i] - c'0')
            scale //= 10
            i += 1
        if i < n:
            return None
    if parts[4] == 60 and parts[3] == 59:   # a leap second
        parts[4] = 59
        leap = 1
    try:
        moment = datetime_new(year, parts[0], parts[1], parts[2], parts[3], parts[4], micro,
                              get_utc(), 0)
        if leap or offset:
            moment = moment + timedelta_new(0, leap - offset * 60, 0)
    except (ValueError, OverflowError):
        return None
    return moment


cdef object uuid_of(str text):
    # Five groups of hexadecimal digits, short ones padded, as java.util.UUID reads them.
    cdef Py_ssize_t n = len(text), i, group = 0, width = 0
    cdef const uint8_t* p = <const uint8_t*>PyUnicode_DATA(text)    # ASCII, see below
    cdef int[5] most = [8, 4, 4, 4, 12]
    cdef uint64_t[5] groups = [0, 0, 0, 0, 0]
    cdef int digit
    if not PyUnicode_IS_ASCII(text):
        return None
    for i in range(n):
        if p[i] == c'-':
            if width == 0 or group == 4:
                return None
            group += 1
            width = 0
            continue
        digit = digit_of(p[i], 16) if p[i] < 0x80 else -1
        width += 1
        if digit < 0 or width > most[group]:
            return None
        groups[group] = (groups[group] << 4) | <uint64_t>digit
    if group != 4 or width == 0:
        return None
    # UUID() checks and parses again: 1 us
    value = UUID.__new__(UUID)
    PyObject_GenericSetAttr(value, "int", (
        ((groups[0] << 32) | (groups[1] << 16) | groups[2]) * (<object>1 << 64)
        + ((groups[3] << 48) | groups[4])))
    PyObject_GenericSetAttr(value, "is_safe", UNKNOWN)
    return value
