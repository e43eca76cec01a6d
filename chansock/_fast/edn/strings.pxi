# A part of edn/reader: strings and characters. No name, no number, no collection.

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memchr, memcpy

from chansock._fast.io.cpython_api cimport PyUnicode_DATA, PyUnicode_DecodeUTF8, new_ref, new_text

from chansock.values import Char

cdef extern from "edn/scan.h":
    const uint8_t* chansock_string_end(
        const uint8_t* start, const uint8_t* p, const uint8_t* end) noexcept

cdef extern from "Python.h":
    PyObject* new_units "PyUnicode_FromKindAndData"(
        int kind, const void* data, Py_ssize_t size) except NULL
    int PyUnicode_4BYTE_KIND

cdef dict CHARACTERS = {
    "newline": "\n", "space": " ", "tab": "\t", "return": "\r", "backspace": "\b",
    "formfeed": "\f",
}
cdef list ASCII_CHARS = [Char(chr(point)) for point in range(128)]


# -- strings --

cdef PyObject* read_string(Source* s, bint is_key) except NULL:
    # At the opening quote. Return a new reference; keys come from the cache of names.
    cdef const uint8_t* first = s.pos + 1
    cdef const uint8_t* p = chansock_string_end(s.start, first, s.end)
    cdef PyObject* text
    if p == s.end or p[0] != c'"':
        return _other_string(s, first, p)
    s.pos = p + 1
    if is_key:
        return cached_text(s, first, p - first)
    text = new_text(p - first, 127)
    memcpy(PyUnicode_DATA(text), first, <size_t>(p - first))
    return text


cdef PyObject* _other_string(
        Source* s, const uint8_t* first, const uint8_t* p) except NULL:
    # One with escapes or past ASCII; p is at the first of these, or at the end.
    cdef Py_ssize_t escapes = 0
    cdef bint is_high = False, has_codes = False
    while p < s.end and p[0] != c'"':
        if p[0] == c'\\':
            if p + 1 == s.end:
                break
            escapes += 1
            has_codes = has_codes or _escaped(p[1]) == 0
            p += 2
        else:
            is_high = True
            while p < s.end and p[0] >= 0x80:
                p += 1
        p = chansock_string_end(s.start, p, s.end)
    if p == s.end or p[0] != c'"':
        _check_start(s, first)
        cut(s, s.pos, "expected a closing quote, got the end: " + shown(s, s.pos))
    if has_codes:
        return _with_codes(s, first, p)
    if is_high:
        return _past_ascii(s, first, p, escapes)
    return _with_escapes(s, first, p, escapes)


cdef int _check_start(Source* s, const uint8_t* p) except -1:
    # That of a string without its end, for what nothing could mend.
    cdef int width = 1
    while p < s.end:
        if p[0] == c'\\':
            if p + 1 == s.end:
                return 0
            read_escape(s, &p)
        elif code_point(p, s.end, &width) < 0:
            not_utf8(s, p)
        else:
            p += width
    return 0


cdef inline uint8_t _escaped(uint8_t c) noexcept:
    # What a backslash and c stand for; 0: c starts a code, or is no escape.
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
    return 0


cdef void _unescape(uint8_t* out, const uint8_t* p, const uint8_t* last) noexcept:
    # Copy up to `last` (at the closing quote); there are only escapes without a code.
    cdef const uint8_t* slash
    cdef size_t size
    while True:
        slash = <const uint8_t*>memchr(p, c'\\', <size_t>(last - p))
        size = <size_t>((last if slash is NULL else slash) - p)
        memcpy(out, p, size)
        if slash is NULL:
            return
        out[size] = _escaped(slash[1])
        out += size + 1
        p = slash + 2


cdef PyObject* _with_escapes(
        Source* s, const uint8_t* first, const uint8_t* last, Py_ssize_t escapes) except NULL:
    cdef PyObject* text = new_text(last - first - escapes, 127)
    _unescape(<uint8_t*>PyUnicode_DATA(text), first, last)
    s.pos = last + 1
    return text


cdef PyObject* _past_ascii(
        Source* s, const uint8_t* first, const uint8_t* last, Py_ssize_t escapes) except NULL:
    cdef uint8_t* bytes
    if escapes == 0:
        s.pos = last + 1
        return new_ref(text_of(s, first, last))
    bytes = <uint8_t*>PyMem_Malloc(<size_t>(last - first))
    if bytes is NULL:
        raise MemoryError("no memory for a string")
    try:
        _unescape(bytes, first, last)
        text = PyUnicode_DecodeUTF8(<const char*>bytes, last - first - escapes, NULL)
    except UnicodeDecodeError:
        return _with_codes(s, first, last)      # which says where
    finally:
        PyMem_Free(bytes)
    s.pos = last + 1
    return new_ref(text)


cdef PyObject* _with_codes(
        Source* s, const uint8_t* first, const uint8_t* last) except NULL:
    # Whatever escapes it has.
    cdef const uint8_t* p = first
    cdef uint32_t* units
    cdef Py_ssize_t count = 0
    cdef int point, width = 1
    units = <uint32_t*>PyMem_Malloc(<size_t>(last - first) * 4)
    if units is NULL:
        raise MemoryError("no memory for a string")
    try:
        while p < last:
            if p[0] == c'\\':
                point = read_escape(s, &p)
                # a pair of escapes is one character, half a pair stays alone
                if (0xDC00 <= point <= 0xDFFF and count and 0xD800 <= units[count - 1] <= 0xDBFF):
                    point = 0x10000 + ((<int>units[count - 1] - 0xD800) << 10) + point - 0xDC00
                    count -= 1
            else:
                point = code_point(p, s.end, &width)
                if point < 0:
                    not_utf8(s, p)
                p += width
            units[count] = <uint32_t>point
            count += 1
        s.pos = last + 1
        return new_units(PyUnicode_4BYTE_KIND, units, count)
    finally:
        PyMem_Free(units)


cdef int read_escape(Source* s, const uint8_t** cursor) except -1:
    # The unit that the escape stands for; the cursor moves behind it.
    cdef const uint8_t* start = cursor[0]
    cdef const uint8_t* p = start + 1
    cdef int c = p[0], value = 0, count = 0, width = 1, point, digit, base = 8, most = 3
    cursor[0] = p + 1
    if _escaped(<uint8_t>c):
        return _escaped(<uint8_t>c)
    if c == c'u':
        base = 16
        most = 4
        p += 1
    elif c >= 0x80 and is_partial(p, s.end):
        not_utf8(s, p)
    elif not (c'0' <= c <= c'9' or is_wide_digit(code_point(p, s.end, &width))):
        fail(s, start, "expected an escape in a string, got " + shown(s, start))
    while count < most and p < s.end:
        point = code_point(p, s.end, &width)
        # a short octal escape must end at a delimiter, as in Clojure
        if point >= 0x80 and is_high_blank(point):
            break
        if 0 <= point < 0x80 and (
                KIND[p[0]] == BLANK or KIND[p[0]] == ENDS or point == c'#'):
            break
        if point < 0:
            not_utf8(s, p)
        digit = digit_of(point, base)
        if digit < 0:
            fail(s, start, f"expected digits of base {base}, got {shown(s, start)}")
        value = value * base + digit
        count += 1
        p += width
    if base == 8 and value > 0o377:
        fail(s, start, "expected an escape in a string, got " + shown(s, start))
    if count == 0 or base == 16 and count < 4:
        if p == s.end:
            cut(s, start, "expected an escape in a string, got " + shown(s, start))
        fail(s, start, "expected an escape in a string, got " + shown(s, start))
    cursor[0] = p
    return value


# -- characters --

cdef PyObject* read_character(Source* s) except NULL:
    # At the backslash. Return a new reference.
    cdef const uint8_t* start = s.pos
    cdef const uint8_t* first = start + 1
    cdef const uint8_t* end
    cdef int width = 1, point
    cdef str text
    if first == s.end:
        cut(s, start, "expected a character after the backslash, got the end")
    if first[0] < 0x80 and is_delimited(s, first + 1):
        s.pos = first + 1
        return new_ref(ASCII_CHARS[first[0]])
    point = code_point(first, s.end, &width)
    if point < 0 and first[0] < 0xF0:
        not_utf8(s, first)
    if point < 0 or point > 0xFFFF:
        fail(s, start, "expected a character of one UTF-16 unit, got " + shown(s, start))
    end = token_end(s, first + width)
    text = PyUnicode_DecodeUTF8(<const char*>first, end - first, NULL)
    point = point if end == first + width else _named(text)
    if is_partial(end, s.end) and (
            point >= 0 and may_be_blank(end, s.end)
            or end[0] >= 0xD9 and _takes_digits(text)):      # the first past ASCII is U+0660
        not_utf8(s, end)
    if point < 0 and end == s.end and (
            _takes_digits(text) or begins_one(text, CHARACTERS)):
        cut(s, start, "expected a character, got " + shown(s, start))
    if point < 0 or is_partial(end, s.end):
        fail(s, start, "expected a character, got " + shown(s, start))
    s.pos = end
    return new_ref(Char(chr(point)))


cdef int _named(str text):
    # The unit that `newline`, `u0041` or `o101` stands for; -1: none.
    cdef int value = 0
    if text in CHARACTERS:
        return ord(CHARACTERS[text])
    if text[0] == "u" and len(text) == 5:
        value = _code(text, 16)
        return -1 if 0xD800 <= value <= 0xDFFF else value
    if text[0] == "o" and 2 <= len(text) <= 4:
        value = _code(text, 8)
        return value if value <= 0o377 else -1
    return -1


cdef int _code(str text, int base):
    # The digits behind the first character; -1 if there are others.
    cdef int value = 0, digit
    cdef Py_ssize_t i
    for i in range(1, len(text)):
        digit = digit_of(<int>ord(text[i]), base)
        if digit < 0:
            return -1
        value = value * base + digit
    return value


cdef bint _takes_digits(str text):
    # Return whether digits behind it could make a character of it.
    if text[0] == "u" and len(text) < 5:
        return _code(text, 16) >= 0 and not 0xD8 <= _code((text + "0")[:3], 16) <= 0xDF
    return text[0] == "o" and len(text) < 4 and 0 <= _code(text, 8) <= 0o37
