# A part of edn/reader: numbers. No string, no name, no collection. Clojure's three patterns for
# numbers decide what a number is; where tools.reader differs, this reader follows the one that
# refuses the text.

from decimal import Decimal
from fractions import Fraction
from math import gcd

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from chansock._fast.io.cpython_api cimport new_float, new_int, new_ref

from chansock.errors import EdnDecodeError

cdef extern from "math.h":
    double log(double value) noexcept

cdef extern from "edn/scan.h":
    const uint8_t* chansock_digits(
        const uint8_t* p, const uint8_t* end, uint64_t* value) noexcept
    bint chansock_scale(
        uint64_t value, int q, uint64_t high, uint64_t low, int scale, double* result) noexcept

cdef extern from "Python.h":
    object PyLong_FromString(const char* text, char** end, int base)
    double PyOS_string_to_double(const char* text, char** end, void* overflow) except? -1.0

# CPython's own default limit: conversions from and to decimal digits are quadratic.
cdef Py_ssize_t MAX_DIGITS = 4300
# Digits that an integer may have in each base, so that it never has more than MAX_DIGITS decimal
# ones: what is read can be written, shown and converted.
cdef Py_ssize_t[37] MOST_DIGITS
cdef long long MAX_SCALE = 2147483647   # java.math.BigDecimal's


cdef int _fill_most_digits() except -1:
    cdef int base
    for base in range(2, 37):
        # Rounded down, and no power of a base is so close to one of ten that it would matter.
        MOST_DIGITS[base] = min(MAX_DIGITS, <Py_ssize_t>(MAX_DIGITS * log(10) / log(base)))
    return 0


_fill_most_digits()


# powers of ten, each exact in a double
cdef double* POWERS = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22]


# -- numbers --

cdef PyObject* read_number(Source* s) except NULL:
    # At a digit, or at a sign before one. Return a new reference. This function handles the common
    # spellings: 18 digits of an integer, 19 of a float.
    cdef const uint8_t* p = s.pos
    cdef const uint8_t* first
    cdef uint64_t value = 0
    cdef bint negative = p[0] == c'-'
    if negative or p[0] == c'+':
        p += 1
    first = p
    p = chansock_digits(p, s.end, &value)
    if is_delimited(s, p):
        if p - first <= 18 and (first[0] != c'0' or p - first == 1):
            s.pos = p
            return new_int(-<long long>value if negative else <long long>value)
    elif p[0] == c'.' or (p[0] | 0x20) == c'e':
        return _float(s, first, p, value, negative)
    return _number(s)


cdef PyObject* _float(
        Source* s, const uint8_t* first, const uint8_t* p, uint64_t value,
        bint negative) except NULL:
    # p is behind the integer part, which is `value`.
    cdef const uint8_t* mark
    cdef Py_ssize_t digits = p - first
    cdef int ten = 0            # the number is value * 10^ten
    cdef uint64_t exponent = 0
    cdef bint is_small
    cdef double number
    if p[0] == c'.':
        mark = p + 1
        p = chansock_digits(mark, s.end, &value)
        digits += p - mark
        if digits > 19:
            # zeros in front count for nothing
            while first < p and (first[0] == c'0' or first[0] == c'.'):
                digits -= first[0] == c'0'
                first += 1
            if digits > 19 or p - mark > 400:
                return _number(s)
        ten = -<int>(p - mark)
    elif digits > 19:
        return _number(s)
    if p < s.end and (p[0] | 0x20) == c'e':
        p += 1
        is_small = p < s.end and p[0] == c'-'
        if p < s.end and (p[0] == c'-' or p[0] == c'+'):
            p += 1
        mark = p
        p = chansock_digits(p, s.end, &exponent)
        if not 1 <= p - mark <= 4:
            return _number(s)
        ten += -<int>exponent if is_small else <int>exponent
    if not is_delimited(s, p):
        return _number(s)
    if value >> 53 == 0 and -22 <= ten <= 22:
        # both are exact in a double, so their product or quotient is the nearest one
        number = <double>value / POWERS[-ten] if ten < 0 else <double>value * POWERS[ten]
    elif not _scale(value, ten, &number):
        return _number(s)
    s.pos = p
    return new_float(-number if negative else number)


# The powers of five that were asked for: 5^q lies from (high, low) * 2^-scale up to one
# unit of low more.
cdef struct Five:
    uint64_t high           # its highest bit is set; 0: not asked for yet
    uint64_t low
    int scale

cdef enum:
    MOST_TENS = 340         # no double has a larger power of ten, with 19 digits before it

cdef Five[2 * MOST_TENS + 1] FIVES


cdef int _scale(uint64_t value, int ten, double* number) except -1:
    # The double nearest to value * 10^ten; 0 if this way does not settle it.
    cdef Five* five
    if value == 0 or not -MOST_TENS <= ten <= MOST_TENS:
        return 0
    five = &FIVES[ten + MOST_TENS]
    if five.high == 0:
        _fill(five, ten)
    return chansock_scale(value, ten, five.high, five.low, five.scale, number)


cdef int _fill(Five* five, int q) except -1:
    cdef object power = pow(<object>5, <object>abs(q))
    cdef int scale = 128 - power.bit_length() if q >= 0 else 127 + power.bit_length()
    if q < 0:
        power = (<object>1 << scale) // power
    elif scale >= 0:
        power <<= scale
    else:
        power >>= -scale
    five.scale = scale
    five.low = <uint64_t>(power & 0xFFFFFFFFFFFFFFFF)
    five.high = <uint64_t>(power >> 64)
    return 0


cdef PyObject* _number(Source* s) except NULL:
    # Every spelling that the quick path leaves over, by Clojure's three patterns.
    cdef const uint8_t* start = s.pos
    cdef const uint8_t* end = start
    cdef int kind, width = 1, point
    cdef bint is_cut
    cdef object value
    while end < s.end:
        kind = KIND[end[0]]
        if kind == HIGH:
            point = code_point(end, s.end, &width)
            if point < 0:
                if is_partial(end, s.end):
                    break
                not_utf8(s, end)
            if is_high_blank(point):
                break
            end += width
        elif kind == BLANK or kind == ENDS or end[0] == c'#':
            break
        else:
            end += 1
    value = _value(s, start, end)
    is_cut = is_partial(end, s.end)
    if value is None or is_cut:
        if value is not None and may_be_blank(end, s.end):
            not_utf8(s, end)
        if not is_cut and end == s.end and _can_grow(s, start):
            cut(s, start, "expected a number, got " + shown(s, start))
        fail(s, start, "expected a number, got " + shown(s, start))
    s.pos = end
    return new_ref(value)


cdef object _value(Source* s, const uint8_t* start, const uint8_t* end):
    # Of the text from start to end; None: it is no number.
    cdef const uint8_t* p = start
    if p[0] == c'-' or p[0] == c'+':
        p += 1
    value = _integer(s, start, p, end)
    if value is None:
        value = _ratio(s, start, p, end)
    if value is None:
        value = _decimal(s, start, p, end)
    return value


cdef bint _can_grow(Source* s, const uint8_t* start) except -1:
    # Return whether text behind it makes a number of it: `1e`, `08`, `0x`, `1/`.
    cdef Source other
    cdef bytes text = PyBytes_FromStringAndSize(<const char*>start, s.end - start)
    for more in (b"0", b"1", b"M"):
        more = text + more
        open_source(&other, <const uint8_t*><const char*>more, len(more), s)
        try:
            if _value(&other, other.start, other.end) is not None:
                return True
        except EdnDecodeError:
            pass
    return False


cdef const uint8_t* _digits(const uint8_t* p, const uint8_t* end, int base) noexcept:
    # Behind the run of ASCII digits of the base.
    while p < end and p[0] < 0x80 and digit_of(p[0], base) >= 0:
        p += 1
    return p


cdef object _to_int(Source* s, const uint8_t* sign, const uint8_t* p, const uint8_t* end, int base):
    # The digits were checked. `sign` is where the number starts.
    cdef bytes text
    cdef object value
    if end - p > MOST_DIGITS[base]:
        _too_long(s, sign, end, f"at most {MOST_DIGITS[base]}", end - p, base)
    text = PyBytes_FromStringAndSize(<const char*>p, end - p)
    try:
        value = PyLong_FromString(<const char*>text, NULL, base)
    except ValueError:      # the process has a lower limit
        _too_long(s, sign, end, "fewer", end - p, base)
    return -value if sign[0] == c'-' else value


cdef int _too_long(
        Source* s, const uint8_t* sign, const uint8_t* end, str limit, Py_ssize_t size,
        int base) except -1:
    cdef str of_base = "" if base == 10 else f" of base {base}"
    cdef str message = f"expected an integer of {limit} digits{of_base}, got {size}"
    cdef const uint8_t* p = sign + 1 if sign[0] == c'-' or sign[0] == c'+' else sign
    if end == s.end and _digits(p, end, 10) == end:
        cut(s, sign, message)       # a point would make a float of it
    return fail(s, sign, message)


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
        if end == s.end:
            cut(s, start, "expected a ratio, got a denominator of 0")
        fail(s, start, "expected a ratio, got a denominator of 0")
    return ratio_of(above, below)


cdef object ratio_of(object above, object below):
    cdef object divisor = gcd(above, below)
    cdef object value
    if divisor != 1:
        above //= divisor
        below //= divisor
    if below == 1:
        return above
    # Fraction() checks its arguments and finds the divisor again: 1 us
    value = object.__new__(Fraction)
    value._numerator = above
    value._denominator = below
    return value


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
            exponent = min(exponent * 10 + (mark[0] - c'0'), MAX_SCALE + places + 1)
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


# -- what has no digits --

# One NaN, so that `#{##NaN ##NaN}` is a duplicate.
cdef dict SYMBOLIC = {b"Inf": float("inf"), b"-Inf": float("-inf"), b"NaN": float("nan")}


cdef object read_symbolic(Source* s, const uint8_t* start):
    # At the name behind the `##` that is at `start`.
    cdef const uint8_t* end
    cdef bytes name
    end = token_end(s, s.pos)
    name = (<const char*>s.pos)[:end - s.pos]
    if name in SYMBOLIC and not (is_partial(end, s.end) and not may_be_blank(end, s.end)):
        if is_partial(end, s.end):
            not_utf8(s, end)
        s.pos = end
        return SYMBOLIC[name]
    if end == s.end and begins_one(name, SYMBOLIC):
        cut(s, start, "expected ##Inf, ##-Inf or ##NaN, got " + shown(s, start))
    fail(s, start, "expected ##Inf, ##-Inf or ##NaN, got " + shown(s, start))
