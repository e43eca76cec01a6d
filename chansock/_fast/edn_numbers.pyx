# edn numbers, #inst and #uuid to their values. No string, name or collection here.
# Clojure's three patterns for numbers decide what is one; where tools.reader differs, the
# side that refuses.

from decimal import Decimal
from fractions import Fraction
from uuid import UUID, SafeUUID

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.datetime cimport datetime_new, get_utc, import_datetime, timedelta_new
from cpython.long cimport PyLong_FromLongLong
from libc.stdint cimport uint8_t, uint64_t

from chansock._fast.edn_tokens cimport (
    BLANK, ENDS, HIGH, KIND, Source, code_point, digit_of, fail, is_high_blank, not_utf8, shown)

cdef extern from "Python.h":
    object PyLong_FromString(const char* text, char** end, int base)
    double PyOS_string_to_double(const char* text, char** end, void* overflow) except? -1.0
    void* PyUnicode_DATA(object text) noexcept
    bint PyUnicode_IS_ASCII(object text) noexcept
    int PyObject_GenericSetAttr(object owner, object name, object value) except -1

import_datetime()

cdef Py_ssize_t MAX_DIGITS = 4300   # CPython's own default: int(text) is quadratic
cdef long long MAX_SCALE = 2147483647   # java.math.BigDecimal's

# powers of ten, each exact in a double
cdef double* POWERS = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15]

cdef object UNKNOWN = SafeUUID.unknown


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
                not_utf8(s, end)
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
    return Fraction(above, below)


cdef object _decimal(Source* s, const uint8_t* start, const uint8_t* p, const uint8_t* end):
    # A float, or with M a Decimal.
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
        return PyOS_string_to_double(<const char*>text, NULL, NULL)
    if q + 1 != end or q[0] != c'M':
        return None
    if not -MAX_SCALE <= (-exponent if negative else exponent) - places <= MAX_SCALE:
        fail(s, start, "expected a decimal with an exponent of 32 bits, got " + shown(s, start))
    text = PyBytes_FromStringAndSize(<const char*>start, q - start)
    value = Decimal(text.decode("ascii"))
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
