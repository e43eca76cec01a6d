# edn text to Python values, straight from borrowed memory. Knows nothing of packets.
# Recursive descent, bounded by max_depth; floods of `#_` and `^` are loops. What Python
# would merge (`{:a 1, "a" 2}`, `#{1 1.0}`) is refused as a duplicate.

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.dict cimport PyDict_SetItem
from cpython.list cimport PyList_New, PyList_SET_ITEM
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from cpython.set cimport PySet_Add
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport uint8_t
from libc.string cimport memcmp, memcpy

from chansock._fast.edn_numbers cimport instant, read_number, uuid_of
from chansock._fast.edn_tokens cimport (
    BLANK, HIGH, KIND, Source, code_point, fail, is_high_blank, not_utf8, read_character,
    read_keyword, read_name, read_string, read_symbol, shown)

from chansock.errors import ConfigError
from chansock.values import (
    FrozenDict, FrozenStrDict, Keyword, List, StrDict, Symbol, Tagged)

cdef extern from "Python.h":
    Py_ssize_t PyDict_GET_SIZE(object d) noexcept
    Py_ssize_t PySet_GET_SIZE(object s) noexcept
    long long PyLong_AsLongLongAndOverflow(object value, int* overflow) except? -1
    void release "Py_DECREF"(PyObject* owned) noexcept

cdef int MOST_OF_ONE_HASH = 32      # keys; Python keys its hash for str alone
cdef int DEEPEST = 2000             # a level costs some 500 bytes of C stack

cdef object INF = float("inf")
cdef object MINUS_INF = float("-inf")
cdef object NAN = float("nan")      # one object, so that `#{##NaN ##NaN}` is a duplicate


# -- members of open collections --

cdef void _open(Source* s, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos) noexcept:
    s.start = data
    s.pos = data + pos
    s.end = data + size
    s.depth = 0
    s.discards = 0
    s.items = s.room
    s.count = 0
    s.capacity = 64


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
        release(s.items[s.count])
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


# -- hash flooding --

@cython.final
@cython.internal
cdef class _Crowd:
    # Counts by hash the keys of one map or set whose hash a peer can choose.
    cdef int others         # keys that are no small integer
    cdef dict counts        # hash -> keys; from the 31st of the others on

    cdef int add(self, Source* s, const uint8_t* at, object container, object key) except -1:
        if not _is_small(key):
            self.others += 1
        if self.counts is None:
            # two small integers at most have one hash, so there is nothing to count yet
            if self.others < MOST_OF_ONE_HASH - 1:
                return 0
            self.counts = {}
            for earlier in container:
                if not _is_keyed(earlier):
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
    # Strings are hashed with a secret, and no more than 34 floats have one hash.
    return isinstance(key, str) or type(key) is float


cdef inline bint _is_small(object key) except -1:
    # An integer that is its own hash.
    cdef int overflow = 0
    cdef long long value
    if type(key) is not int:
        return False
    value = PyLong_AsLongLongAndOverflow(key, &overflow)
    return not overflow and -(1LL << 60) < value < (1LL << 60)


cdef _Crowd _admit(Source* s, const uint8_t* at, _Crowd crowd, object container, object key):
    # One more key or member that is no string: hashable, and none too many of its hash.
    if crowd is None:
        if _is_keyed(key) or _is_small(key):
            return None
        crowd = _Crowd.__new__(_Crowd)
    elif _is_keyed(key):
        return crowd
    try:
        hash(key)
    except (TypeError, RecursionError) as error:    # what a reader function made
        fail(s, at, f"expected a key or member that can be hashed, got {error}")
    crowd.add(s, at, container, key)
    return crowd


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
                    not_utf8(s, p)
                p += width
        elif kind == HIGH:
            point = code_point(p, s.end, &width)
            if point < 0:
                not_utf8(s, p)
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

    def __cinit__(self, keys="keyword", readers=None, int max_depth=500, bint tagged=True):
        if keys not in ("keyword", "string"):
            raise ConfigError(f"keys: expected 'keyword' or 'string', got {keys!r}")
        if not 1 <= max_depth <= DEEPEST:
            raise ConfigError(f"max_depth: expected 1 to {DEEPEST}, got {max_depth}")
        self.keyword_keys = keys == "keyword"
        self.readers = dict(readers) if readers else {}
        self.tagged = tagged
        self.max_depth = max_depth

    def decode(self, text):
        """Return the one form in text; raises EdnDecodeError if there is none, or more."""
        cdef Py_ssize_t end = 0, rest
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
                rest = self._behind(data, view.len, end)
                if rest >= 0:
                    _refuse(data, view.len, rest, "expected one form, got text after it")
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

    cdef Py_ssize_t _behind(
            self, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos) except -2:
        # Where another form starts behind the first; -1: nowhere.
        cdef Source s
        _open(&s, data, size, pos)
        try:
            return s.pos - data if self._skip(&s) >= 0 else -1
        finally:
            _drop(&s)

    cdef object read_from(
            self, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos, Py_ssize_t* end):
        cdef Source s
        cdef int c
        _open(&s, data, size, pos)
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
            self._too_deep(s)
        if c == c'"':
            return read_string(s, False)
        elif c == c':':
            return read_keyword(s, False)
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
            return read_symbol(s)
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
        return read_symbol(s)

    cdef int _too_deep(self, Source* s) except -1:
        return fail(
            s, s.pos, f"expected at most {self.max_depth} forms around a form, got more")

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
            crowd = _admit(s, at, crowd, result, member)
            PySet_Add(result, member)
            many += 1
            if PySet_GET_SIZE(result) != many:
                fail(s, at, f"expected distinct members in a set, got {shown(s, at)} again")
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
            if s.depth > self.max_depth:
                self._too_deep(s)
            at = s.pos
            if c == c':':
                key = read_keyword(s, as_text) if namespace is None else \
                    _qualified(read_keyword(s, False), namespace, as_text)
            else:
                key = read_string(s, True) if c == c'"' else self._form(s, c, True)
                if type(key) is str:
                    if as_text:
                        as_text = False
                        has_text = True
                        result = _with_text(result)
                elif namespace is not None and type(key) is Symbol:
                    key = _qualified(key, namespace, False)
                else:
                    crowd = _admit(s, at, crowd, result, key)
            c = self._skip(s)
            if c == c'}':
                fail(s, s.pos, "odd number of forms in map: " + shown(s, start))
            if c < 0:
                fail(s, start, "expected a closing '}', got the end: " + shown(s, start))
            PyDict_SetItem(result, key, self._form(s, c, hashed))
            many += 1
            if PyDict_GET_SIZE(result) != many:
                fail(s, at, f"expected distinct keys in a map, got {shown(s, at)} again")
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
        namespace = read_name(s, "a namespace after '#:'")
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
        tag = read_name(s, "a tag")
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
                fail(s, start, f"expected what the reader of #{tag} takes, got "
                               f"{shown(s, start)}: {error!r}")
        if tag == "inst":
            result = instant(value) if type(value) is str else None
            if result is None:
                fail(s, start, f"expected an RFC 3339 time in #inst, got {shown(s, start)}")
            return result
        if tag == "uuid":
            result = uuid_of(value) if type(value) is str else None
            if result is None:
                fail(s, start, f"expected a UUID in #uuid, got {shown(s, start)}")
            return result
        if not self.tagged and not s.discards:
            fail(s, start, f"expected a tag that has a reader, got #{tag}")
        return Tagged(tag, value)

    cdef object _with_metadata(self, Source* s, bint hashed):
        # `^meta value` or `#^meta value`: read, checked and dropped. A flood is a loop.
        cdef const uint8_t* start = s.pos
        cdef const uint8_t* at
        cdef int c = start[0]
        while c == c'^' or c == c'#' and s.pos + 1 < s.end and s.pos[1] == c'^':
            start = s.pos
            s.pos += 1 if c == c'^' else 2
            s.depth += 1
            meta = self._next(s, start, False)
            s.depth -= 1
            if type(meta) is not str and not isinstance(meta, (Keyword, Symbol, dict)):
                fail(s, start, "expected a symbol, keyword, string or map after '^', got "
                     + shown(s, start))
            c = self._skip(s)
        at = s.pos
        value = self._next(s, start, hashed)
        if not isinstance(value, (Symbol, list, tuple, dict, set, frozenset)):
            fail(s, at, f"expected a symbol or a collection after metadata, got {shown(s, at)}")
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


cdef int _refuse(
        const uint8_t* data, Py_ssize_t size, Py_ssize_t at, str message) except -1:
    cdef Source s
    _open(&s, data, size, at)
    return fail(&s, data + at, f"{message}: {shown(&s, data + at)}")
