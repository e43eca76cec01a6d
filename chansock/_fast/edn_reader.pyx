# edn text to Python values, straight from borrowed memory. Knows nothing of packets.
# Recursive descent, bounded by max_depth; floods of `#_` and `^` are loops. What Python
# would merge (`{:a 1, "a" 2}`, `#{1 1.0}`) is refused as a duplicate.

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_SetItem
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from cpython.set cimport PySet_Add
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint8_t, uint32_t, uint64_t
from libc.string cimport memcmp, memcpy

from chansock._fast.edn_tokens cimport (
    BLANK, ENDS, HIGH, IN_TOKEN, KIND, Source, code_point, fail, fault_text, instant,
    is_high_blank, is_wide_digit, name_fault, read_character, read_escape, read_number, shown,
    token_end, uuid_of)

from chansock.errors import ConfigError, EdnDecodeError
from chansock.values import (
    FrozenDict, FrozenStrDict, Keyword, List, StrDict, Symbol, Tagged)

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 most)
    void* PyUnicode_DATA(object text) noexcept
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    object PyUnicode_FromKindAndData(int kind, const void* data, Py_ssize_t size)
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    Py_ssize_t PyDict_GET_SIZE(object d) noexcept
    Py_ssize_t PySet_GET_SIZE(object s) noexcept
    int PyUnicode_4BYTE_KIND
    void Py_DECREF_ "Py_DECREF"(PyObject* owned) noexcept

cdef int MOST_OF_ONE_HASH = 32      # keys; Python keys its hash for str alone
cdef int DEEPEST = 2000             # a level costs some 500 bytes of C stack

cdef object INF = float("inf")
cdef object MINUS_INF = float("-inf")
cdef object NAN = float("nan")      # one object, so that `#{##NaN ##NaN}` is a duplicate


# -- names seen before: a bounded cache, since peers choose the names --

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


# -- members of open collections --

cdef int _push(Source* s, object member) except -1:
    cdef PyObject** items
    if s.count == s.capacity:
        if s.items == s.room:
            items = <PyObject**>PyMem_Malloc(<size_t>s.capacity * 2 * sizeof(PyObject*))
            if items is not NULL:
                memcpy(items, s.room, <size_t>s.count * sizeof(PyObject*))
        else:
            items = <PyObject**>PyMem_Realloc(s.items, <size_t>s.capacity * 2 * sizeof(PyObject*))
        if items is NULL:
            raise MemoryError("no memory for the members of a collection")
        s.items = items
        s.capacity *= 2
    Py_INCREF(member)
    s.items[s.count] = <PyObject*>member
    s.count += 1
    return 0


cdef void _drop(Source* s) noexcept:
    while s.count:
        s.count -= 1
        Py_DECREF_(s.items[s.count])
    if s.items != s.room:
        PyMem_Free(s.items)


cdef object _take_list(Source* s, Py_ssize_t base):
    cdef Py_ssize_t i, size = s.count - base
    cdef list result = PyList_New(size)
    for i in range(size):
        PyList_SET_ITEM(result, i, <object>s.items[base + i])   # takes our reference
    s.count = base
    return result


cdef object _take_tuple(Source* s, Py_ssize_t base):
    cdef Py_ssize_t i, size = s.count - base
    cdef tuple result = PyTuple_New(size)
    for i in range(size):
        PyTuple_SET_ITEM(result, i, <object>s.items[base + i])  # takes our reference
    s.count = base
    return result


# -- strings and names --

cdef str _text(Source* s, const uint8_t* p, const uint8_t* end):
    # UTF-8 without escapes.
    try:
        return PyUnicode_DecodeUTF8(<const char*>p, end - p, NULL)
    except UnicodeDecodeError as error:
        at = error.start
    p += <Py_ssize_t>at
    fail(s, p, "expected UTF-8, got " + repr(<bytes>p[:1]))


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


cdef str _string(Source* s, bint is_key):
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
                    fail(s, p, "expected UTF-8, got " + repr(<bytes>p[:1]))
                p += width
            units[count] = <uint32_t>point
            count += 1
        s.pos = last + 1
        return PyUnicode_FromKindAndData(PyUnicode_4BYTE_KIND, units, count)
    finally:
        PyMem_Free(units)


cdef object _keyword(Source* s, bint as_text):
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


cdef str _name(Source* s, str what):
    # A symbol's text, nil, true and false too.
    cdef const uint8_t* first = s.pos
    cdef const uint8_t* p = token_end(s, first)
    cdef int fault = name_fault(first, p - first)
    if fault:
        fail(s, first, f"expected {what}, got {shown(s, first)}: {fault_text(fault)}")
    s.pos = p
    return _text(s, first, p)


cdef object _symbol(Source* s):
    cdef const uint8_t* p = s.pos
    cdef int width = 1
    cdef str name
    if p[0] == c'+' or p[0] == c'-':
        p += 1
    if p < s.end and p[0] >= 0x80 and is_wide_digit(code_point(p, s.end, &width)):
        fail(s, s.pos, "expected a number in ASCII digits, got " + shown(s, s.pos))
    name = _name(s, "a form")
    if name == "nil":
        return None
    if name == "true":
        return True
    if name == "false":
        return False
    return Symbol(name)


# -- hash flooding --

@cython.final
@cython.internal
cdef class _Crowd:
    # Counts by hash the keys of one map or set whose hash a peer can choose.
    cdef int others         # keys that are no small integer
    cdef dict counts        # hash -> keys; from the 31st of the others on

    cdef int add(self, Source* s, const uint8_t* at, object container, object key) except -1:
        if type(key) is int and -(<object>1 << 60) < key < (<object>1 << 60):
            # these have a hash each, but for -1 and -2
            if self.counts is None:
                return 0
        else:
            self.others += 1
            if self.counts is None:
                if self.others < MOST_OF_ONE_HASH - 1:
                    return 0
                self.counts = {}
                for earlier in container:
                    if not isinstance(earlier, (str, float)):
                        self._count(s, at, earlier)
        return self._count(s, at, key)

    cdef int _count(self, Source* s, const uint8_t* at, object key) except -1:
        cdef object mark = hash(key)
        cdef int many = self.counts.get(mark, 0) + 1
        if many > MOST_OF_ONE_HASH:
            fail(s, at, f"expected at most {MOST_OF_ONE_HASH} keys of one hash, got more")
        self.counts[mark] = many
        return 0


cdef inline bint _is_keyed(object key) noexcept:
    # Strings are hashed with a secret key, and few floats share a hash.
    return isinstance(key, str) or type(key) is float


# -- whitespace --

cdef int _blank(Source* s) except -2:
    # Skip whitespace and comments; the byte that follows, or -1.
    cdef const uint8_t* p = s.pos
    cdef int kind, point, width = 1
    while p < s.end:
        kind = KIND[p[0]]
        if kind == BLANK:
            p += 1
        elif p[0] == c';':
            while p < s.end and p[0] != c'\n' and p[0] != c'\r':
                if code_point(p, s.end, &width) < 0:
                    fail(s, p, "expected UTF-8, got " + repr(<bytes>p[:1]))
                p += width
        elif kind == HIGH:
            point = code_point(p, s.end, &width)
            if point < 0:
                fail(s, p, "expected UTF-8, got " + repr(<bytes>p[:1]))
            if not is_high_blank(point):
                break
            p += width
        else:
            break
    s.pos = p
    return p[0] if p < s.end else -1


# -- the reader --

@cython.final
cdef class Reader:
    """Reads edn from bytes. Options: what a keyword key becomes, tags, depth."""

    def __cinit__(self, keys="keyword", readers=None, int max_depth=500):
        if keys not in ("keyword", "string"):
            raise ConfigError(f"keys: expected 'keyword' or 'string', got {keys!r}")
        if not 1 <= max_depth <= DEEPEST:
            raise ConfigError(f"max_depth: expected 1 to {DEEPEST}, got {max_depth}")
        self.keyword_keys = keys == "keyword"
        self.readers = dict(readers) if readers else {}
        self.max_depth = max_depth

    def decode(self, text):
        """Return the one form in text; raises EdnDecodeError if there is none, or more."""
        cdef Py_ssize_t end = 0, rest = 0
        cdef Py_buffer view
        cdef const uint8_t* data
        if isinstance(text, str):
            text = (<str>text).encode("utf-8", "surrogatepass")
        PyObject_GetBuffer(text, &view, PyBUF_SIMPLE)
        try:
            data = <const uint8_t*>view.buf
            value = self.read(data, view.len, &end)
            if end < 0:
                _refuse(data, view.len, 0, "expected a form, got nothing but whitespace")
            if end < view.len:
                self.read_from(data, view.len, end, &rest)
                if rest >= 0:
                    _refuse(data, view.len, end, "expected one form, got text after it")
            return value
        finally:
            PyBuffer_Release(&view)

    def decode_one(self, text, Py_ssize_t pos=0):
        """Return the first form from pos on, and the offset behind it."""
        cdef Py_ssize_t end = 0
        cdef Py_buffer view
        PyObject_GetBuffer(text, &view, PyBUF_SIMPLE)
        try:
            if not 0 <= pos <= view.len:
                raise ValueError(f"pos: expected 0 to {view.len}, got {pos}")
            value = self.read_from(<const uint8_t*>view.buf, view.len, pos, &end)
            if end < 0:
                _refuse(<const uint8_t*>view.buf, view.len, pos,
                        "expected a form, got nothing but whitespace")
            return value, end
        finally:
            PyBuffer_Release(&view)

    cdef object read(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t* end):
        return self.read_from(data, size, 0, end)

    cdef object read_from(
            self, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos, Py_ssize_t* end):
        cdef Source s
        cdef int c
        s.start = data
        s.pos = data + pos
        s.end = data + size
        s.depth = 0
        s.discards = 0
        s.items = s.room
        s.count = 0
        s.capacity = 64
        if pos == 0 and size >= 3 and memcmp(data, b"\xEF\xBB\xBF", 3) == 0:
            s.pos += 3      # a BOM; Clojure would make a symbol of it
        try:
            c = self._skip(&s)
            if c < 0:
                end[0] = -1
                return None
            value = self._form(&s, c, False)
            end[0] = s.pos - data
            return value
        except RecursionError as error:
            # comparing two keys, each as deep as the limit allows
            fail(&s, s.pos, f"expected keys that can be compared, got {error}")
        finally:
            _drop(&s)

    # -- between the forms --

    cdef int _skip(self, Source* s) except -2:
        cdef int c = _blank(s)
        while c == c'#' and s.pos + 1 < s.end and s.pos[1] == c'_':
            self._discard(s)
            c = _blank(s)
        return c

    cdef int _discard(self, Source* s) except -1:
        # `#_ #_ a b` discards two forms: counted, not nested, so that a flood is a loop.
        cdef const uint8_t* start = s.pos
        cdef Py_ssize_t pending = 1
        cdef int c
        s.pos += 2
        while pending:
            c = _blank(s)
            if c < 0 or c == c')' or c == c']' or c == c'}':
                fail(s, start, f"expected a form to discard, got {shown(s, s.pos)}")
            if c == c'#' and s.pos + 1 < s.end and s.pos[1] == c'_':
                pending += 1
                s.pos += 2
                continue
            s.discards += 1
            self._form(s, c, False)
            s.discards -= 1
            pending -= 1
        return 0

    # -- the forms --

    cdef object _form(self, Source* s, int c, bint hashed):
        # c is the byte at s.pos, as _skip gives it.
        cdef const uint8_t* next = s.pos + 1
        if s.depth > self.max_depth:
            fail(s, s.pos, f"expected at most {self.max_depth} forms around a form, got more")
        if c == c'"':
            return _string(s, False)
        elif c == c':':
            return _keyword(s, False)
        elif c'0' <= c <= c'9':
            return read_number(s)
        elif c == c'[':
            return self._vector(s, hashed)
        elif c == c'{':
            s.pos += 1
            return self._map(s, hashed, None)
        elif c == c'-' or c == c'+':
            if next < s.end and c'0' <= next[0] <= c'9':
                return read_number(s)
            return _symbol(s)
        elif c == c'(':
            return self._list(s, hashed)
        elif c == c'#':
            return self._dispatch(s, hashed)
        elif c == c'\\':
            return read_character(s)
        elif c == c'^':
            return self._with_metadata(s, hashed)
        elif c == c')' or c == c']' or c == c'}':
            fail(s, s.pos, f"expected a form, got a {chr(c)!r} that nothing opened")
        return _symbol(s)

    cdef object _next(self, Source* s, const uint8_t* owner, bint hashed):
        # The form that `owner` (a tag, a `^`, a `##`) needs behind it.
        cdef int c = self._skip(s)
        if c < 0 or c == c')' or c == c']' or c == c'}':
            fail(s, owner, f"expected a form after {shown(s, owner)}, got {shown(s, s.pos)}")
        return self._form(s, c, hashed)

    cdef int _members(self, Source* s, int close, bint hashed) except -1:
        # Push all up to the closing bracket.
        cdef const uint8_t* start = s.pos
        cdef int c
        s.pos += 1
        s.depth += 1
        while True:
            c = self._skip(s)
            if c == close:
                break
            if c < 0:
                fail(s, start, f"expected a closing {chr(close)!r}, got the end")
            if c == c')' or c == c']' or c == c'}':
                fail(s, s.pos, f"expected a closing {chr(close)!r}, got {chr(c)!r}")
            _push(s, self._form(s, c, hashed))
        s.pos += 1
        s.depth -= 1
        return 0

    cdef object _vector(self, Source* s, bint hashed):
        cdef Py_ssize_t base = s.count
        self._members(s, c']', hashed)
        return _take_tuple(s, base) if hashed else _take_list(s, base)

    cdef object _list(self, Source* s, bint hashed):
        cdef Py_ssize_t base = s.count
        self._members(s, c')', hashed)
        return List(_take_tuple(s, base))

    cdef object _set(self, Source* s, bint hashed):
        cdef const uint8_t* start = s.pos - 1       # at the `#`
        cdef const uint8_t* at
        cdef set result = set()
        cdef _Crowd crowd = None
        cdef Py_ssize_t many = 0
        cdef int c
        s.pos += 1
        s.depth += 1
        while True:
            c = self._skip(s)
            if c == c'}':
                break
            if c < 0:
                fail(s, start, "expected a closing '}', got the end")
            at = s.pos
            member = self._form(s, c, True)
            if not _is_keyed(member):
                if crowd is None:
                    crowd = _Crowd.__new__(_Crowd)
                _hashable(s, at, member)
                crowd.add(s, at, result, member)
            PySet_Add(result, member)
            many += 1
            if PySet_GET_SIZE(result) != many:
                fail(s, at, f"expected distinct members in a set, got {_cut(member)} again")
        s.pos += 1
        s.depth -= 1
        return frozenset(result) if hashed else result

    cdef object _map(self, Source* s, bint hashed, str namespace):
        # s.pos is behind the brace.
        cdef const uint8_t* start = s.pos - 1
        cdef const uint8_t* at
        cdef dict result = {}
        cdef _Crowd crowd = None
        cdef Py_ssize_t many = 0
        cdef bint as_text = self.keyword_keys   # keyword keys become plain text
        cdef bint has_text = False              # a string is among the keys: a StrDict
        cdef int c
        s.depth += 1
        while True:
            c = self._skip(s)
            if c == c'}':
                break
            if c < 0:
                fail(s, start, "expected a closing '}', got the end: " + shown(s, start))
            at = s.pos
            if c == c':':
                if s.depth > self.max_depth:
                    self._form(s, c, True)      # raises
                key = _keyword(s, as_text) if namespace is None else \
                    _qualified(_keyword(s, False), namespace, as_text)
            else:
                key = _string(s, True) if c == c'"' else self._form(s, c, True)
                if type(key) is str:
                    if as_text:
                        as_text = False
                        has_text = True
                        result = _with_text(result)
                elif namespace is not None and type(key) is Symbol:
                    key = _qualified(key, namespace, False)
                elif not _is_keyed(key):
                    if crowd is None:
                        crowd = _Crowd.__new__(_Crowd)
                    _hashable(s, at, key)
                    crowd.add(s, at, result, key)
            c = self._skip(s)
            if c == c'}':
                fail(s, s.pos, "odd number of forms in map: " + shown(s, start))
            if c < 0:
                fail(s, start, "expected a closing '}', got the end: " + shown(s, start))
            PyDict_SetItem(result, key, self._form(s, c, hashed))
            many += 1
            if PyDict_GET_SIZE(result) != many:
                fail(s, at, f"expected distinct keys in a map, got {_cut(key)} again")
        s.pos += 1
        s.depth -= 1
        if hashed:
            try:
                return FrozenStrDict(result) if has_text else FrozenDict(result)
            except (TypeError, RecursionError) as error:    # what a reader function made
                fail(s, start, f"expected a map that can be hashed, got {error}")
        return result

    cdef object _dispatch(self, Source* s, bint hashed):
        # A `#` and what it makes of the next form.
        cdef const uint8_t* start = s.pos
        cdef int c = start[1] if start + 1 < s.end else -1
        cdef int point, width = 1
        if c == c'{':
            s.pos += 1
            return self._set(s, hashed)
        if c == c':':
            return self._namespaced_map(s, hashed)
        if c == c'#':
            return self._symbolic(s)
        if c == c'^':
            return self._with_metadata(s, hashed)
        if c >= 0:
            point = code_point(start + 1, s.end, &width)
            # Clojure's reader has a table for Latin-1 and takes nothing past it
            if 0 <= point < 256 and chr(point).isalpha():
                return self._tagged(s, hashed)
        fail(s, start, "expected a tag, '{', '_', ':', '#' or '^' after '#', got "
             + shown(s, start + 1))

    cdef object _namespaced_map(self, Source* s, bint hashed):
        # `#:ns{:a 1}` is `{:ns/a 1}`.
        cdef const uint8_t* start = s.pos
        cdef str namespace
        cdef int c
        s.pos += 2
        if s.pos == s.end or KIND[s.pos[0]] == BLANK or c'0' <= s.pos[0] <= c'9':
            fail(s, start, "expected a namespace after '#:', got " + shown(s, s.pos))
        namespace = _name(s, "a namespace after '#:'")
        if "/" in namespace or namespace in ("nil", "true", "false"):
            fail(s, start, f"expected a namespace after '#:', got {namespace!r}")
        c = s.pos[0] if s.pos < s.end else -1
        if c >= 0 and c != c';':
            c = _blank(s)
        if c != c'{':
            fail(s, start, "expected a map after its namespace, got " + shown(s, s.pos))
        s.pos += 1
        return self._map(s, hashed, namespace)

    cdef object _symbolic(self, Source* s):
        cdef const uint8_t* start = s.pos
        s.pos += 2
        s.depth += 1
        name = self._next(s, start, False)
        s.depth -= 1
        if type(name) is Symbol:
            if name == "Inf":
                return INF
            if name == "-Inf":
                return MINUS_INF
            if name == "NaN":
                return NAN
        fail(s, start, "expected ##Inf, ##-Inf or ##NaN, got " + shown(s, start))

    cdef object _tagged(self, Source* s, bint hashed):
        cdef const uint8_t* start = s.pos
        cdef str tag
        s.pos += 1
        tag = _name(s, "a tag")
        if tag in ("nil", "true", "false"):
            fail(s, start, f"expected a tag, got {tag!r}")
        s.depth += 1
        value = self._next(s, start, hashed)
        s.depth -= 1
        function = self.readers.get(tag) if self.readers else None
        if function is not None:
            if s.discards:
                return Tagged(tag, value)
            try:
                return function(value)
            except Exception as error:
                fail(s, start, f"expected a value that the reader of #{tag} takes, got "
                               f"{_cut(value)}: {error!r}")
        if tag == "inst":
            result = instant(value) if type(value) is str else None
            if result is None:
                fail(s, start, f"expected an RFC 3339 time in #inst, got {_cut(value)}")
            return result
        if tag == "uuid":
            result = uuid_of(value) if type(value) is str else None
            if result is None:
                fail(s, start, f"expected five groups of digits in #uuid, got {_cut(value)}")
            return result
        return Tagged(tag, value)

    cdef object _with_metadata(self, Source* s, bint hashed):
        # `^meta value` or `#^meta value`: read, checked and dropped. A flood is a loop.
        cdef const uint8_t* start = s.pos
        cdef int c = start[0]
        while c == c'^' or c == c'#' and s.pos + 1 < s.end and s.pos[1] == c'^':
            start = s.pos
            s.pos += 1 if c == c'^' else 2
            s.depth += 1
            meta = self._next(s, start, False)
            s.depth -= 1
            if type(meta) is not str and not isinstance(meta, (Keyword, Symbol, dict)):
                fail(s, start, f"expected a symbol, keyword, string or map after '^', got "
                               f"{_cut(meta)}")
            c = self._skip(s)
        value = self._next(s, start, hashed)
        if not isinstance(value, (Symbol, list, tuple, dict, set, frozenset)):
            fail(s, start, f"expected a symbol or a collection after metadata, got {_cut(value)}")
        return value


# -- maps --

cdef object _qualified(object name, str namespace, bint as_text):
    # The key `:name` of a `#:namespace{}`; `:_/name` stays without.
    cdef object text
    own = name.namespace
    if own is None:
        text = f"{namespace}/{name}"
    elif own == "_":
        text = name.name
    else:
        text = str(name)
    return text if as_text else type(name)(text)


cdef dict _with_text(dict plain):
    # The first string key came: what stands before it as text are keywords.
    cdef object result = StrDict()
    for key, value in plain.items():
        PyDict_SetItem(result, Keyword(key) if type(key) is str else key, value)
    return <dict>result


cdef int _hashable(Source* s, const uint8_t* at, object key) except -1:
    try:
        hash(key)
    except (TypeError, RecursionError) as error:    # what a reader function made
        fail(s, at, f"expected a key or member that can be hashed, got {error}")
    return 0


cdef str _cut(object value):
    cdef str text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."


cdef int _refuse(
        const uint8_t* data, Py_ssize_t size, Py_ssize_t at, str message) except -1:
    cdef Source s
    s.start = data
    s.end = data + size
    return fail(&s, data + at, f"{message}: {shown(&s, data + at)}")
