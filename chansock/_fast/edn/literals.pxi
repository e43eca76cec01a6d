# A part of edn/reader: the text of #inst and #uuid to their values.

from uuid import UUID, SafeUUID

from cpython.datetime cimport datetime_new, get_utc, import_datetime, timedelta_new
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from chansock._fast.io.cpython_api cimport (
    PyObject_GenericSetAttr, PyUnicode_DATA, is_ascii, steal_ref)

from chansock.errors import EdnDecodeError

import_datetime()

cdef object UNKNOWN = SafeUUID.unknown


cdef int _two(const uint8_t* p) noexcept:
    if c'0' <= p[0] <= c'9' and c'0' <= p[1] <= c'9':
        return (p[0] - c'0') * 10 + p[1] - c'0'
    return -1


# Both return None if the text is no such literal.
cdef object instant(str text):
    # RFC 3339 and its beginnings, `2018` to `2018-03-28T10:48:00.123`, with `Z`, an offset or
    # neither (UTC). Microseconds are kept, finer digits cut.
    cdef Py_ssize_t n = len(text), i = 4
    cdef const uint8_t* p = <const uint8_t*>PyUnicode_DATA(<PyObject*>text)    # ASCII, see below
    cdef int offset = 0, hours, minutes, year, scale = 100000
    cdef int[5] parts = [1, 1, 0, 0, 0]     # month, day, hour, minute, second
    cdef const char* before = "--T::"
    cdef int part = 0, micro = 0, leap = 0
    if not is_ascii(<PyObject*>text) or n < 4 or _two(p) < 0 or _two(p + 2) < 0:
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
    cdef const uint8_t* p = <const uint8_t*>PyUnicode_DATA(<PyObject*>text)    # ASCII, see below
    cdef int[5] most = [8, 4, 4, 4, 12]
    cdef uint64_t[5] groups = [0, 0, 0, 0, 0]
    cdef int digit
    if not is_ascii(<PyObject*>text):
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


cdef bint _begins_instant(str text) except -1:
    # A day, a time or a zone may be under way.
    for rest in ("", "2001-01-01T00:00:00"[len(text):], "1110-10-10T10:10:00"[len(text):],
                 "0", "00", ":00", "0:00", "00:00"):
        if instant(text + rest) is not None:
            return True
    return False


cdef bint _begins_uuid(str text) except -1:
    for groups in range(5):
        if uuid_of(text + "-0" * groups) or uuid_of(text + "0" + "-0" * groups):
            return True
    return False


# Return whether the string that starts at `quote`, and has no end yet, may become such a literal.
cdef bint begins(Source* s, const uint8_t* quote, bint is_instant) except -1:
    cdef Source other
    cdef bytes text = (<const char*>quote)[:s.end - quote]
    if not text.isascii():
        return False
    for short in range(6):      # bytes of an escape that is not complete
        whole = text[:len(text) - short] + b'"'
        open_source(&other, <const uint8_t*><const char*>whole, len(whole), s)
        try:
            found = <str>steal_ref(read_string(&other, False))
        except EdnDecodeError:
            continue
        if other.pos == other.end:
            return _begins_instant(found) if is_instant else _begins_uuid(found)
    return False
