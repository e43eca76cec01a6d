# A part of edn/reader: the state of a read, the classes of bytes, code points, and errors. It
# makes no value. Its rules follow what Clojure's and tools.reader's edn readers do when they run;
# where the two differ, this reader follows the one that refuses the text.

from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from chansock._fast.io.cpython_api cimport PyUnicode_DecodeUTF8, Py_UNICODE_ISDECIMAL, decref

from chansock.errors import EdnDecodeError, EdnTruncated

cdef extern from "Python.h":
    int Py_UNICODE_TODECIMAL(uint32_t point) noexcept

cdef enum:
    MAX_DEPTH = 500         # Clojure's own readers overflow their stack soon after 600
    SIGHT = 160             # bytes of the line on each side of an error
    SIGHT_CHARACTERS = 40   # of these


# -- the state --

cdef dict NO_READERS = {}

cdef void open_source(
        Source* s, const uint8_t* data, Py_ssize_t size, const Source* like) noexcept:
    s.start = data
    s.pos = data
    s.end = data + size
    s.readers = <PyObject*>NO_READERS if like is NULL else like.readers
    s.max_depth = MAX_DEPTH if like is NULL else like.max_depth
    s.keyword_keys = True if like is NULL else like.keyword_keys
    s.tagged = True if like is NULL else like.tagged
    s.depth = 0
    s.discards = 0
    s.collisions = 0
    s.ratios = 0
    s.work = 0
    s.key = NULL
    s.items = s.room
    s.count = 0
    s.capacity = 64


cdef void drop_source(Source* s) noexcept:
    while s.count:
        s.count -= 1
        decref(s.items[s.count])
    if s.items != s.room:
        PyMem_Free(s.items)
        s.items = s.room


cdef int grow_items(Source* s, PyObject* reference) except -1:
    cdef PyObject** items
    cdef size_t size = <size_t>s.capacity * 2 * sizeof(PyObject*)
    if s.items == s.room:
        items = <PyObject**>PyMem_Malloc(size)
        if items is not NULL:
            memcpy(items, s.room, <size_t>s.count * sizeof(PyObject*))
    else:
        items = <PyObject**>PyMem_Realloc(s.items, size)
    if items is NULL:
        decref(reference)
        raise MemoryError("no memory for the members of a collection")
    s.items = items
    s.capacity *= 2
    return 0


# -- refusals --

cdef int _refuse(Source* s, const uint8_t* at, str message, object kind) except -1:
    cdef const uint8_t* p = s.start
    cdef const uint8_t* first = at
    cdef const uint8_t* last = at
    cdef Py_ssize_t line = 1, column = 1
    cdef str before, behind, mark = ""
    while p < at:
        if p[0] == c'\n':
            line += 1
            column = 1
        elif (p[0] & 0xC0) != 0x80:
            column += 1
        p += 1
    while first > s.start and at - first < SIGHT and (first - 1)[0] != c'\n':
        first -= 1
    while last < s.end and last - at < SIGHT and last[0] != c'\n':
        last += 1
    before = PyUnicode_DecodeUTF8(<const char*>first, at - first, "replace")
    behind = PyUnicode_DecodeUTF8(<const char*>at, last - at, "replace")
    if len(before) > SIGHT_CHARACTERS or first > s.start and (first - 1)[0] != c'\n':
        mark = "..."
        before = before[-SIGHT_CHARACTERS:]
    if len(behind) > SIGHT_CHARACTERS or last < s.end and last[0] != c'\n':
        behind = behind[:SIGHT_CHARACTERS] + "..."
    raise kind(message, at - s.start, line, column, mark + before + behind,
               len(mark) + len(before))


cdef int fail(Source* s, const uint8_t* at, str message) except -1:
    return _refuse(s, at, message, EdnDecodeError)


# Raise EdnTruncated: the text is well-formed so far, and there is text that could follow.
cdef int cut(Source* s, const uint8_t* at, str message) except -1:
    return _refuse(s, at, message, EdnTruncated)


cdef int not_utf8(Source* s, const uint8_t* at) except -1:
    if is_partial(at, s.end):
        return cut(s, at, "expected the rest of a character, got the end")
    return fail(s, at, f"expected UTF-8, got {at[0]:#04x}")


# Return what is at `at` for an error message: its repr, cut at 40 characters.
cdef str shown(Source* s, const uint8_t* at):
    cdef Py_ssize_t size = min(s.end - at, 160)
    cdef str text = PyUnicode_DecodeUTF8(<const char*>at, size, "replace")
    if size == 0:
        return "the end"
    return repr(text) if len(text) <= 40 else repr(text[:40]) + "..."


# Return whether text is the beginning of one of these names.
cdef bint begins_one(object text, object names) except -1:
    for name in names:
        if name.startswith(text):
            return True
    return False


# -- code points --

# Return the code point at p and set its width in bytes; -1 if it is not valid UTF-8.
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


# Return whether the text ends inside of the code point that starts at p.
cdef bint is_partial(const uint8_t* p, const uint8_t* end) noexcept:
    cdef uint8_t[4] whole = [0x80, 0x80, 0x80, 0x80]
    cdef Py_ssize_t left = end - p
    cdef int width = 1
    if not 0 < left < 4 or p[0] < 0x80:
        return False
    memcpy(whole, p, <size_t>left)
    if left == 1 and (p[0] == 0xE0 or p[0] == 0xF0):
        whole[1] = 0xBF         # where 0x80 would make a longer form than needed
    return code_point(whole, whole + 4, &width) >= 0 and width > left


# Return whether that code point can turn out to be whitespace.
cdef bint may_be_blank(const uint8_t* p, const uint8_t* end) noexcept:
    # The beginnings of U+1680, U+2000 to U+2029, U+205F and U+3000.
    if end - p == 1:
        return p[0] == 0xE1 or p[0] == 0xE2 or p[0] == 0xE3
    if end - p == 2:
        return (p[0] == 0xE1 and p[1] == 0x9A or p[0] == 0xE2 and 0x80 <= p[1] <= 0x81
                or p[0] == 0xE3 and p[1] == 0x80)
    return False


cdef bint is_high_blank(int point) noexcept:
    # java.lang.Character.isWhitespace past ASCII: the no-break spaces are none
    if point < 0x1680:
        return False
    if point > 0x3000:
        return False
    return (point == 0x1680 or (0x2000 <= point <= 0x200A and point != 0x2007)
            or point == 0x2028 or point == 0x2029 or point == 0x205F or point == 0x3000)


# Return whether it is a decimal digit past ASCII, as Java defines one.
cdef bint is_wide_digit(int point) noexcept:
    # Java sees UTF-16 units, so digits past U+FFFF are none to it
    return 0x80 <= point < 0x10000 and Py_UNICODE_ISDECIMAL(<uint32_t>point)


# Return the value of a digit of any script; -1 if it is no digit of the base.
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


# Decode UTF-8 that has no escapes.
cdef str text_of(Source* s, const uint8_t* p, const uint8_t* end):
    cdef Py_ssize_t at
    try:
        return PyUnicode_DecodeUTF8(<const char*>p, end - p, NULL)
    except UnicodeDecodeError as error:
        at = error.start
    not_utf8(s, p + at)


# -- between the forms --

cdef inline bint is_delimited(Source* s, const uint8_t* p) noexcept:
    # Return whether a token may end at p.
    return p == s.end or KIND[p[0]] == BLANK or KIND[p[0]] == ENDS


# Skip whitespace and comments, and return the byte that follows, or -1.
cdef int skip_blank(Source* s) except -2:
    cdef const uint8_t* p = s.pos
    cdef int kind, point, width = 1
    while p < s.end:
        kind = KIND[p[0]]
        if kind == BLANK:
            p += 1
        elif p[0] == c';':
            while p < s.end and p[0] != c'\n' and p[0] != c'\r':
                if code_point(p, s.end, &width) < 0:
                    not_utf8(s, p)
                p += width
        elif kind == HIGH:
            point = code_point(p, s.end, &width)
            if point < 0:
                if is_partial(p, s.end) and not may_be_blank(p, s.end):
                    break       # the start of a symbol
                not_utf8(s, p)
            if not is_high_blank(point):
                break
            p += width
        else:
            break
    s.pos = p
    return p[0] if p < s.end else -1
