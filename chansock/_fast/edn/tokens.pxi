# A part of edn/reader: keywords and symbols, the rules for their names, and a cache of the names
# that were read before. No string, no number, no collection.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memchr, memcmp, memcpy

from chansock._fast.io.cpython_api cimport (
    PyUnicode_AsUTF8AndSize, PyUnicode_DATA, incref, new_ref, new_text, unlikely, xdecref)

from chansock.values import Keyword, Symbol

cdef extern from "edn/scan.h":
    const uint8_t* chansock_name_end(
        const uint8_t* start, const uint8_t* p, const uint8_t* end) noexcept
    void chansock_words(
        const uint8_t* start, const uint8_t* p, Py_ssize_t size, const uint8_t* end,
        uint64_t* low, uint64_t* high) noexcept
    bint chansock_is_name(
        const uint8_t* p, const uint8_t* end, uint64_t low, uint64_t high,
        Py_ssize_t size) noexcept


# -- rules of names --

cdef enum:
    # Faults that text behind the name could still mend.
    EMPTY = 1
    COLON_LAST
    SLASH_LAST
    # Faults that nothing can mend.
    COLON_FIRST
    COLON_BEFORE_SLASH
    COLON_TWICE
    SLASH_FIRST
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
    p = <const uint8_t*>memchr(text, c':', <size_t>size)
    while p is not NULL:
        if p + 1 < end and p[1] == c':':
            return COLON_TWICE
        p = <const uint8_t*>memchr(p + 1, c':', <size_t>(end - p - 1))
    slash = <const uint8_t*>memchr(text, c'/', <size_t>size)
    if slash is not NULL and size > 1:
        if slash == text:
            return SLASH_FIRST
        if (slash - 1)[0] == c':':
            return COLON_BEFORE_SLASH
        p = slash + 1
        if p == end:
            return SLASH_LAST
        if p[0] == c'/':
            return 0 if p + 1 == end else SLASH_TWICE     # `ns//` names a division sign
        if memchr(p, c'/', <size_t>(end - p)) is not NULL:
            return SLASH_TWICE
        if c'0' <= p[0] <= c'9' or is_wide_digit(code_point(p, end, &width)):
            return DIGIT_AFTER_SLASH
    return COLON_LAST if (end - 1)[0] == c':' else 0


cdef str fault_text(int fault):
    if fault == EMPTY:
        return "it is empty"
    if fault == COLON_FIRST:
        return "it begins with a colon"
    if fault == COLON_LAST or fault == COLON_BEFORE_SLASH:
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


cdef bint is_plain(const uint8_t* text, Py_ssize_t size) noexcept:
    cdef Py_ssize_t i, slash = -1
    for i in range(size):
        if KIND[text[i]] != IN_TOKEN or text[i] < 0x20 or text[i] == 0x7F or text[i] == c':':
            return False
        if text[i] == c'/':
            if slash >= 0:
                return False
            slash = i
    if slash < 0:
        return size > 0
    return 0 < slash < size - 1 and not c'0' <= text[slash + 1] <= c'9'


# -- tokens --

# Return where the token that begins at p ends; before a code point that the end of the text cuts.
cdef const uint8_t* token_end(Source* s, const uint8_t* p) except NULL:
    cdef int kind, point, width = 1
    while p < s.end:
        kind = KIND[p[0]]
        if kind == IN_TOKEN:
            p += 1
        elif kind == HIGH:
            point = code_point(p, s.end, &width)
            if point < 0:
                if is_partial(p, s.end):
                    break
                not_utf8(s, p)
            if is_high_blank(point):
                break
            p += width
        elif kind == NEVER:
            fail(s, p, f"expected a delimiter after a token, got {shown(s, p)}")
        else:
            break
    return p


cdef const uint8_t* _checked_end(
        Source* s, const uint8_t* at, const uint8_t* first, str what) except NULL:
    # Behind the name that begins at `first`; `at`: with its colon.
    cdef const uint8_t* p = token_end(s, first)
    cdef bint is_last = p == s.end or is_partial(p, s.end)
    cdef int fault = name_fault(first, p - first)
    cdef str message
    if fault:
        message = f"expected {what}, got {shown(s, at)}: {fault_text(fault)}"
        if is_last and fault <= SLASH_LAST:
            cut(s, at, message)
        fail(s, at, message)
    if is_last and p < s.end:
        if (p - 1)[0] == c'/' and not may_be_blank(p, s.end):
            fail(s, at, f"expected {what}, got {shown(s, at)}")     # `/` and `ns//` are whole
        not_utf8(s, p)
    return p


# -- the cache --

# A bounded cache of those seen before, since peers choose the names.

cdef enum:
    SET_BITS = 10           # 1024 sets of two: one message type has some ten names, and
    WAYS = 2                # two that share a set must not evict each other at each use
    SHORT = 16              # bytes that two words hold
    LONGEST_CACHED = 64     # bytes

cdef Name[WAYS << SET_BITS] NAMES
cdef Name BEFORE_ALL        # no name: what comes next is the first key of a read
BEFORE_ALL.next = &BEFORE_ALL


cdef inline Name* _set_of(uint64_t low, uint64_t high) noexcept:
    # Quick, not strong: a peer that finds collisions only evicts names.
    cdef uint64_t mark = (low ^ (high * 0x9E3779B97F4A7C15U)) * 0x9FB21C651E98DF25U
    return &NAMES[(mark >> (64 - SET_BITS)) * WAYS]


cdef inline Name* _short_name(uint64_t low, uint64_t high, Py_ssize_t size) noexcept:
    cdef Name* name = _set_of(low, high)
    if name.low == low and name.high == high and name.size == size:
        return name
    name += 1
    if name.low == low and name.high == high and name.size == size:
        return name
    return NULL


cdef uint64_t _mark(const uint8_t* p, Py_ssize_t size) noexcept:
    # Of a name longer than eight bytes.
    cdef uint64_t h = <uint64_t>size * 0x9E3779B97F4A7C15U
    cdef uint64_t word
    while size > 8:
        memcpy(&word, p, 8)
        h = (h ^ word) * 0x9FB21C651E98DF25U
        h ^= h >> 32
        p += 8
        size -= 8
    memcpy(&word, p + size - 8, 8)
    h = (h ^ word) * 0x9FB21C651E98DF25U
    return h ^ (h >> 29)


cdef Name* _long_name(uint64_t mark, const uint8_t* p, Py_ssize_t size) noexcept:
    cdef Name* name = _set_of(mark, 0)
    cdef int _way
    for _way in range(WAYS):
        if (name.low == mark and name.size == size
                and memcmp(name.bytes, p, <size_t>size) == 0):
            return name
        name += 1
    return NULL


cdef inline Name* _find(
        Source* s, const uint8_t* p, Py_ssize_t size, uint64_t* low, uint64_t* high) noexcept:
    # Where it is cached, or NULL; and what finds it later.
    if size <= SHORT:
        chansock_words(s.start, p, size, s.end, low, high)
        return _short_name(low[0], high[0], size)
    low[0] = _mark(p, size)
    high[0] = 0
    return _long_name(low[0], p, size)


cdef int _store(
        Name* name, uint64_t low, uint64_t high, object text, object keyword) except -1:
    # `name`: where the text is cached without a keyword, else NULL.
    # Old entries are let go last: their end may run other code, which may read.
    cdef PyObject* old_text
    cdef PyObject* old_keyword
    cdef Py_ssize_t size = 0
    cdef const char* data = PyUnicode_AsUTF8AndSize(text, &size)
    if name is NULL:
        name = _set_of(low, high)
        old_text = name[1].text
        old_keyword = name[1].keyword
        name[1] = name[0]
        name.next = &BEFORE_ALL
    else:
        old_text = name.text
        old_keyword = name.keyword
    incref(<PyObject*>text)
    name.text = <PyObject*>text
    name.keyword = NULL
    if keyword is not None:
        incref(<PyObject*>keyword)
        name.keyword = <PyObject*>keyword
    name.low = low
    name.high = high
    name.size = size
    name.bytes = data
    xdecref(old_text)
    xdecref(old_keyword)
    return 0


# -- names --

cdef inline PyObject* _part(Name* name, bint as_text) noexcept:
    cdef PyObject* part = name.text if as_text else name.keyword
    incref(part)
    return part


cdef inline Name* _seen(Source* s) noexcept:
    # The keyword at s.pos, if it is cached; s.pos then moves behind it.
    cdef const uint8_t* first = s.pos + 1
    cdef const uint8_t* p = chansock_name_end(s.start, first, s.end)
    cdef Py_ssize_t size = p - first
    cdef uint64_t low = 0, high = 0
    cdef Name* name
    if not 0 < size <= LONGEST_CACHED or not is_delimited(s, p):
        return NULL
    name = _find(s, first, size, &low, &high)
    if name is NULL or name.keyword is NULL:
        return NULL
    s.pos = p
    return name


# Each of these starts at s.pos, moves it behind the token, and returns a new reference.

cdef PyObject* read_keyword(Source* s, bint as_text) except NULL:
    # `:ns/name` as Keyword, or as plain text.
    cdef Name* name = _seen(s)
    if unlikely(name is NULL):
        return _new_keyword(s, as_text)
    return _part(name, as_text)


cdef PyObject* read_key(Source* s, bint as_text) except NULL:
    # Messages resemble each other: the key that last followed the one before is tried first.
    cdef const uint8_t* first = s.pos + 1
    cdef Name* before = &BEFORE_ALL if s.key is NULL else s.key
    cdef Name* name = before.next
    if name.keyword is not NULL and chansock_is_name(
            first, s.end, name.low, name.high, name.size):
        s.pos = first + name.size
    else:
        name = _seen(s)
        if unlikely(name is NULL):
            return _new_keyword(s, as_text)
        before.next = name
    s.key = name
    return _part(name, as_text)


cdef PyObject* _new_keyword(Source* s, bint as_text) except NULL:
    cdef const uint8_t* first = s.pos + 1
    cdef const uint8_t* p = _checked_end(s, s.pos, first, "a keyword")
    cdef Py_ssize_t size = p - first
    cdef uint64_t low = 0, high = 0
    cdef Name* name
    text = text_of(s, first, p)
    keyword = Keyword(text)
    if size <= LONGEST_CACHED:
        name = _find(s, first, size, &low, &high)
        _store(name, low, high, text, keyword)
    s.pos = p
    return new_ref(text if as_text else keyword)


cdef Name* plain_name(Source* s, const uint8_t* first, Py_ssize_t size) except? NULL:
    cdef uint64_t low = 0, high = 0
    cdef Name* name
    if not 0 < size <= LONGEST_CACHED:
        return NULL
    name = _find(s, first, size, &low, &high)
    if name is not NULL and name.keyword is not NULL:
        return name
    if not is_plain(first, size):
        return NULL
    text = text_of(s, first, first + size)
    _store(name, low, high, text, Keyword(text))
    return _find(s, first, size, &low, &high)


cdef PyObject* cached_text(
        Source* s, const uint8_t* first, Py_ssize_t size) except NULL:
    cdef uint64_t low = 0, high = 0
    cdef Name* name
    cdef PyObject* text
    cdef bint is_cached = 0 < size <= LONGEST_CACHED
    if is_cached:
        name = _find(s, first, size, &low, &high)
        if name is not NULL:
            incref(name.text)
            return name.text
    text = new_text(size, 127)
    memcpy(PyUnicode_DATA(text), first, <size_t>size)
    if is_cached:
        _store(NULL, low, high, <object>text, None)
    return text


cdef str read_name(Source* s, str what):
    # A symbol's text, nil, true and false too.
    cdef const uint8_t* first = s.pos
    cdef const uint8_t* p = _checked_end(s, first, first, what)
    s.pos = p
    return text_of(s, first, p)


cdef PyObject* read_symbol(Source* s) except NULL:
    cdef const uint8_t* p = s.pos
    cdef int width = 1
    cdef str name
    if p[0] == c'+' or p[0] == c'-':
        p += 1
    if p < s.end and p[0] >= 0x80 and is_wide_digit(code_point(p, s.end, &width)):
        fail(s, s.pos, "expected a number in ASCII digits, got " + shown(s, s.pos))
    name = read_name(s, "a form")
    if name == "nil":
        return new_ref(None)
    if name == "true":
        return new_ref(True)
    if name == "false":
        return new_ref(False)
    return new_ref(Symbol(name))


# Return the key `:name`, a Keyword or Symbol, of a `#:namespace{}`; `:_/name` gets no namespace.
cdef object qualified(object name, str namespace, bint as_text):
    cdef object text
    own = name.namespace
    if own is None:
        text = f"{namespace}/{name}"
    elif own == "_":
        text = name.name
    else:
        text = str(name)
    return text if as_text else type(name)(text)
