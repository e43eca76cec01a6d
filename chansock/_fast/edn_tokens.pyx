# edn text to strings, characters, keywords and symbols; and what every reader of edn bytes
# needs: the state of a read, classes of bytes, `fail`. No number, no collection.
# The rules are those of Clojure's and tools.reader's edn readers, run, not read about; where
# the two differ, the side that refuses.

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from chansock.errors import EdnDecodeError
from chansock.values import Char, Keyword, Symbol

cdef extern from "Python.h":
    bint Py_UNICODE_ISDECIMAL(uint32_t point) noexcept
    int Py_UNICODE_TODECIMAL(uint32_t point) noexcept
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 most)
    void* PyUnicode_DATA(object text) noexcept
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    object PyUnicode_FromKindAndData(int kind, const void* data, Py_ssize_t size)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    int PyUnicode_4BYTE_KIND

cdef dict CHARACTERS = {
    "newline": "\n", "space": " ", "tab": "\t", "return": "\r", "backspace": "\b",
    "formfeed": "\f",
}


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


cdef int not_utf8(Source* s, const uint8_t* at) except -1:
    return fail(s, at, f"expected UTF-8, got {at[0]:#04x}")


cdef str shown(Source* s, const uint8_t* at):
    cdef Py_ssize_t size = min(s.end - at, 160)
    cdef str text = PyUnicode_DecodeUTF8(<const char*>at, size, "replace")
    if size == 0:
        return "the end"
    return repr(text) if len(text) <= 40 else repr(text[:40]) + "..."


# -- code points --

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
    return 0x80 <= point < 0x10000 and Py_UNICODE_ISDECIMAL(<uint32_t>point)


cdef const uint8_t* token_end(Source* s, const uint8_t* p) except NULL:
    cdef int kind, point, width = 1
    while p < s.end:
        kind = KIND[p[0]]
        if kind == IN_TOKEN:
            p += 1
        elif kind == HIGH:
            point = code_point(p, s.end, &width)
            if point < 0:
                not_utf8(s, p)
            if is_high_blank(point):
                break
            p += width
        elif kind == NEVER:
            fail(s, p, f"expected a delimiter after a token, got {shown(s, p)}")
        else:
            break
    return p


# -- rules of names --

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


# -- names --

# A bounded cache of those seen before, since peers choose the names.

cdef enum:
    CACHED_NAMES = 2048     # slots; one message type has some ten keys
    LONGEST_CACHED = 64     # bytes

cdef struct Name:
    uint64_t mark           # of its bytes
    uint32_t size
    const char* bytes       # inside `text`
    PyObject* text          # a str; owned
    PyObject* keyword       # its Keyword, once the name was checked, else NULL; owned

cdef Name[CACHED_NAMES] NAMES


cdef inline uint64_t _mark(const uint8_t* p, Py_ssize_t size) noexcept:
    # Quick, not strong: a peer that finds collisions only evicts names.
    cdef uint64_t h = <uint64_t>size * 0x9E3779B97F4A7C15U
    cdef uint64_t word
    cdef uint32_t half
    while size >= 8:
        memcpy(&word, p, 8)
        h = (h ^ word) * 0x9FB21C651E98DF25U
        h ^= h >> 32
        p += 8
        size -= 8
    if size >= 4:
        memcpy(&half, p, 4)
        word = half
        memcpy(&half, p + size - 4, 4)
        word |= <uint64_t>half << 32
    elif size > 0:
        word = p[0] | (<uint64_t>p[size >> 1] << 8) | (<uint64_t>p[size - 1] << 16)
    else:
        word = 0
    h = (h ^ word) * 0x9FB21C651E98DF25U
    return h ^ (h >> 29)


cdef inline Name* _slot(uint64_t mark) noexcept:
    return &NAMES[mark & (CACHED_NAMES - 1)]


cdef inline bint _is_in(Name* name, uint64_t mark, const uint8_t* p, Py_ssize_t size) noexcept:
    return (name.mark == mark and name.size == size and name.text is not NULL
            and memcmp(name.bytes, p, <size_t>size) == 0)


cdef int _store(uint64_t mark, object text, object keyword) except -1:
    # Old entries are let go last: their end may run other code, which may read.
    cdef Name* name = _slot(mark)
    cdef PyObject* old_text = name.text
    cdef PyObject* old_keyword = name.keyword
    cdef Py_ssize_t size = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    Py_INCREF(text)
    name.text = <PyObject*>text
    name.keyword = NULL
    if keyword is not None:
        Py_INCREF(keyword)
        name.keyword = <PyObject*>keyword
    name.mark = mark
    name.size = <uint32_t>size
    name.bytes = data
    Py_XDECREF(old_text)
    Py_XDECREF(old_keyword)
    return 0


cdef object read_keyword(Source* s, bint as_text):
    # `:ns/name` as Keyword, or as plain text where it is the key of a map.
    cdef const uint8_t* first = s.pos + 1
    cdef const uint8_t* p = first
    cdef uint64_t mark = 0
    cdef Py_ssize_t size
    cdef Name* name
    cdef int fault
    while p < s.end and KIND[p[0]] == IN_TOKEN:
        p += 1
    if p < s.end and KIND[p[0]] >= HIGH - 1:
        p = token_end(s, p)
    size = p - first
    if size <= LONGEST_CACHED:
        mark = _mark(first, size)
        name = _slot(mark)
        if name.keyword is not NULL and _is_in(name, mark, first, size):
            s.pos = p
            return <object>(name.text if as_text else name.keyword)
    fault = name_fault(first, size)
    if fault:
        fail(s, s.pos, f"expected a keyword, got {shown(s, s.pos)}: {fault_text(fault)}")
    text = _text(s, first, p)
    keyword = Keyword(text)
    if size <= LONGEST_CACHED:
        _store(mark, text, keyword)
    s.pos = p
    return text if as_text else keyword


cdef str read_name(Source* s, str what):
    # A symbol's text, nil, true and false too.
    cdef const uint8_t* first = s.pos
    cdef const uint8_t* p = token_end(s, first)
    cdef int fault = name_fault(first, p - first)
    if fault:
        fail(s, first, f"expected {what}, got {shown(s, first)}: {fault_text(fault)}")
    s.pos = p
    return _text(s, first, p)


cdef object read_symbol(Source* s):
    cdef const uint8_t* p = s.pos
    cdef int width = 1
    cdef str name
    if p[0] == c'+' or p[0] == c'-':
        p += 1
    if p < s.end and p[0] >= 0x80 and is_wide_digit(code_point(p, s.end, &width)):
        fail(s, s.pos, "expected a number in ASCII digits, got " + shown(s, s.pos))
    name = read_name(s, "a form")
    if name == "nil":
        return None
    if name == "true":
        return True
    if name == "false":
        return False
    return Symbol(name)


# -- strings --

cdef str _text(Source* s, const uint8_t* p, const uint8_t* end):
    # UTF-8 without escapes.
    try:
        return PyUnicode_DecodeUTF8(<const char*>p, end - p, NULL)
    except UnicodeDecodeError as error:
        at = error.start
    p += <Py_ssize_t>at
    not_utf8(s, p)


cdef str _ascii(const uint8_t* p, Py_ssize_t size):
    cdef str text
    if size == 0:
        return ""
    text = PyUnicode_New(size, 127)
    memcpy(PyUnicode_DATA(text), p, <size_t>size)
    return text


cdef inline bint _is_plain(uint64_t word) noexcept:
    # Eight bytes without quote, backslash or high bit.
    cdef uint64_t ones = 0x0101010101010101U
    cdef uint64_t quote = word ^ (ones * c'"')
    cdef uint64_t slash = word ^ (ones * c'\\')
    return ((word | ((quote - ones) & ~quote) | ((slash - ones) & ~slash)) & (ones << 7)) == 0


cdef str read_string(Source* s, bint is_key):
    cdef const uint8_t* first = s.pos + 1
    cdef const uint8_t* p = first
    cdef uint64_t word, mark
    cdef Name* name
    cdef bint is_high = False
    cdef str text
    while s.end - p >= 8:
        memcpy(&word, p, 8)
        if not _is_plain(word):
            break
        p += 8
    while p < s.end and p[0] != c'"' and p[0] != c'\\':
        is_high = is_high or p[0] >= 0x80
        p += 1
    if p == s.end:
        fail(s, s.pos, "expected a closing quote, got the end: " + shown(s, s.pos))
    if p[0] == c'\\':
        return _escaped(s, first, p)
    s.pos = p + 1
    if is_high:
        return _text(s, first, p)
    if not is_key or p - first > LONGEST_CACHED:
        return _ascii(first, p - first)
    mark = _mark(first, p - first)
    name = _slot(mark)
    if _is_in(name, mark, first, p - first):
        return <str>name.text
    text = _ascii(first, p - first)
    _store(mark, text, None)
    return text


cdef str _escaped(Source* s, const uint8_t* first, const uint8_t* p):
    # A string with escapes; p is at the first of them.
    cdef const uint8_t* last = p
    cdef uint32_t* units
    cdef Py_ssize_t count = 0
    cdef int point, width = 1
    while last < s.end and last[0] != c'"':
        last += 2 if last[0] == c'\\' else 1
    if last >= s.end:
        fail(s, s.pos, "expected a closing quote, got the end: " + shown(s, s.pos))
    units = <uint32_t*>PyMem_Malloc(<size_t>(last - first) * 4)
    if units is NULL:
        raise MemoryError("no memory for a string")
    try:
        p = first
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
        return PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, units, count)
    finally:
        PyMem_Free(units)


# -- characters and escapes --

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
        value = Py_UNICODE_TODECIMAL(<uint32_t>point)
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
        not_utf8(s, start + 1)
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
