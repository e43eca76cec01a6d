# A part of edn/reader: the forms of edn to values, by recursive descent: collections, tags, and
# metadata. max_depth bounds the recursion; floods of `#_` and `^` are loops. The parser refuses as
# duplicates what Python would merge (`{:a 1, "a" 2}`, `#{1 1.0}`). It is a little past 600 lines,
# since each form may contain each other form.
#
# On the hot path references are counted by hand: the caller owns a PyObject* that a function
# returns, and unfinished collections lie on the stack of the Source, which drops them on an error.
#
# `cut` raises an error that the end of the text causes. So wherever the text can end, the parser
# decides whether any text behind it could help.

from fractions import Fraction

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from chansock._fast.io.cpython_api cimport (
    PyDict_GET_SIZE, PyDict_Next, PyObject_GenericSetAttr, PyUnicode_CheckExact, Py_TYPE, decref,
    fill_tuple, new_dict, new_ref, put, raised, steal_ref, unlikely)

from chansock.errors import EdnDecodeError, EdnTruncated
from chansock.values import (
    FrozenDict, FrozenStrDict, Keyword, List, StrDict, Symbol, Tagged, short_repr)

cdef extern from *:
    """
    #define CHSK_NEW_OF(k, args) ((PyTypeObject *)(k))->tp_new((PyTypeObject *)(k), args, NULL)
    """
    PyObject* new_of "CHSK_NEW_OF"(object kind, tuple args) except NULL     # kind.__new__(kind)

cdef extern from "Python.h":
    PyObject* new_tuple_of "PyType_GenericAlloc"(PyTypeObject* kind, Py_ssize_t size) except NULL
    int merge "PyDict_Merge"(object d, object other, bint override) except -1

cdef enum:
    LONGEST_NAMESPACE = 255     # bytes: it is in the text once, in the value at each key

cdef PyTypeObject* KEYWORD = <PyTypeObject*>Keyword
cdef PyTypeObject* FRACTION = <PyTypeObject*>Fraction


# Read the form at s.pos, whose first byte is c, as `skip` returned it.
cdef object read_form(Source* s, int c):
    return steal_ref(_form(s, c, False))


cdef int read_event(Source* s, int c, PyObject** parts) except -1:
    # The first two members of the vector or list at s.pos, as an event and its callback id:
    # `[[:id data] cb-id]`. Return the event's size, and set its parts without a list around them:
    # the keyword, the data, the callback id. If the first member is anything else, return 0; it is
    # then the first part. The caller owns all three; a missing one is None. Other members are read
    # and dropped.
    cdef const uint8_t* start = s.pos
    cdef Py_ssize_t base = s.count, size = 0, behind
    cdef int close = c']' if c == c'[' else c')'
    _enter(s, close)
    if _skip(s) == c'[':
        _members(s, c']', False)
        size = s.count - base
        if not 1 <= size <= 2 or Py_TYPE(s.items[base]) != KEYWORD:
            push(s, take_list(s, base))
            size = 0
    behind = base + (size or 1)
    _rest(s, start, close, False)
    while s.count > behind + 1:
        s.count -= 1
        decref(s.items[s.count])
    parts[0] = s.items[base] if s.count > base else new_ref(None)
    parts[1] = s.items[base + 1] if size == 2 else new_ref(None)
    parts[2] = s.items[behind] if s.count > behind else new_ref(None)
    s.count = base
    return <int>size


# -- between the forms --

cdef inline int _skip(Source* s) except -2:
    cdef const uint8_t* p = s.pos
    while p < s.end and KIND[p[0]] == BLANK:
        p += 1
    s.pos = p
    if p == s.end:
        return -1
    if unlikely(p[0] == c'#' or p[0] == c';' or p[0] >= 0x80):
        return skip(s)
    return p[0]


# Skip whitespace, comments, and discarded forms, and return the next byte, or -1 at the end.
cdef int skip(Source* s) except -2:
    cdef int c = skip_blank(s)
    while c == c'#' and s.pos + 1 < s.end and s.pos[1] == c'_':
        _discard(s)
        c = skip_blank(s)
    return c


cdef int _discard(Source* s) except -1:
    # `#_ #_ a b` discards two forms: counted, not nested, so that a flood is a loop.
    cdef const uint8_t* start = s.pos
    cdef Py_ssize_t pending = 1
    cdef int c
    s.pos += 2
    while pending:
        c = skip_blank(s)
        if c < 0:
            cut(s, start, "expected a form to discard, got the end")
        if c == c')' or c == c']' or c == c'}':
            fail(s, start, f"expected a form to discard, got {shown(s, s.pos)}")
        if c == c'#' and s.pos + 1 < s.end and s.pos[1] == c'_':
            pending += 1
            s.pos += 2
            continue
        s.discards += 1
        decref(_form(s, c, False))
        s.discards -= 1
        pending -= 1
    return 0


# -- one form --

cdef PyObject* _form(Source* s, int c, bint hashed) except NULL:
    # `hashed`: in a map key or set member, so it must be hashable.
    cdef const uint8_t* p = s.pos
    if c == c'"':
        return read_string(s, False)
    elif c == c':':
        return read_keyword(s, False)
    elif c in (c'0', c'1', c'2', c'3', c'4', c'5', c'6', c'7', c'8', c'9'):
        return _hashed_number(s) if hashed else read_number(s)
    elif c == c'{':
        return _map(s, hashed, NULL)
    elif c == c'[':
        return _vector(s, hashed)
    elif c == c'n':
        if s.end - p >= 3 and p[1] == c'i' and p[2] == c'l' and is_delimited(s, p + 3):
            s.pos = p + 3
            return new_ref(None)
    elif c == c't':
        if s.end - p >= 4 and memcmp(p, b"true", 4) == 0 and is_delimited(s, p + 4):
            s.pos = p + 4
            return new_ref(True)
    elif c == c'f':
        if s.end - p >= 5 and memcmp(p, b"false", 5) == 0 and is_delimited(s, p + 5):
            s.pos = p + 5
            return new_ref(False)
    elif c == c'-' or c == c'+':
        if p + 1 < s.end and c'0' <= p[1] <= c'9':
            return _hashed_number(s) if hashed else read_number(s)
    elif c == c'(':
        return _list(s, hashed)
    elif c == c'#':
        return new_ref(_dispatch(s, hashed))
    elif c == c'\\':
        return read_character(s)
    elif c == c'^':
        return new_ref(_with_metadata(s, hashed))
    elif c == c')' or c == c']' or c == c'}':
        fail(s, s.pos, f"expected a form, got a {chr(c)!r} that nothing opened")
    return read_symbol(s)


cdef PyObject* _hashed_number(Source* s) except NULL:
    cdef const uint8_t* at = s.pos
    cdef PyObject* value = read_number(s)
    if Py_TYPE(value) == FRACTION:
        push(s, value)      # so that an error drops it
        limit_ratio(s, at)
        s.count -= 1
    return value


cdef inline PyObject* _form_or_null(Source* s, int c, bint hashed) noexcept:
    # The same, but what it raises is left to the caller.
    return (<PyObject* (*)(Source*, int, bint) noexcept>_form)(s, c, hashed)


cdef int _too_deep(Source* s) except -1:
    return fail(s, s.pos, f"expected at most {s.max_depth} forms around a form, got more")


cdef object _next(Source* s, const uint8_t* owner, bint hashed):
    # The form that `owner`, a tag or a `^`, needs behind it.
    cdef int c = _skip(s)
    if s.depth > s.max_depth:
        _too_deep(s)
    if c < 0:
        cut(s, owner, f"expected a form after {shown(s, owner)}, got the end")
    if c == c')' or c == c']' or c == c'}':
        fail(s, owner, f"expected a form after {shown(s, owner)}, got {shown(s, s.pos)}")
    return steal_ref(_form(s, c, hashed))


# -- collections --

cdef inline int _enter(Source* s, int close) except -1:
    # Into the collection whose bracket is at s.pos; at max_depth it may only be empty.
    s.pos += 1
    s.depth += 1
    if unlikely(s.depth > s.max_depth):
        if skip_blank(s) not in (close, -1):
            _too_deep(s)
    return 0


cdef int _unclosed(Source* s, const uint8_t* start, int c, int close) except -1:
    if c < 0:
        return cut(s, start, f"expected a closing {chr(close)!r}, got the end: {shown(s, start)}")
    return fail(s, s.pos, f"expected a closing {chr(close)!r}, got {chr(c)!r}")


cdef inline int _members(Source* s, int close, bint hashed) except -1:
    # Push all that the bracket at s.pos opens.
    cdef const uint8_t* start = s.pos
    _enter(s, close)
    return _rest(s, start, close, hashed)


cdef inline int _rest(Source* s, const uint8_t* start, int close, bint hashed) except -1:
    # Push all up to the closing bracket; the opening one is at start.
    cdef int c
    while True:
        c = _skip(s)
        if c == close:
            break
        if unlikely(c < 0 or c == c')' or c == c']' or c == c'}'):
            _unclosed(s, start, c, close)
        push(s, _form(s, c, hashed))
    s.pos += 1
    s.depth -= 1
    return 0


cdef PyObject* _vector(Source* s, bint hashed) except NULL:
    cdef Py_ssize_t base = s.count
    _members(s, c']', hashed)
    return take_tuple(s, base) if hashed else take_list(s, base)


cdef PyObject* _list(Source* s, bint hashed) except NULL:
    cdef Py_ssize_t i, size, base = s.count
    cdef PyObject* result
    _members(s, c')', hashed)
    size = s.count - base
    result = new_tuple_of(<PyTypeObject*>List, size)
    for i in range(size):
        fill_tuple(result, i, s.items[base + i])
    s.count = base
    return result


cdef object _set(Source* s, bint hashed):
    # s.pos is at the brace.
    cdef const uint8_t* start = s.pos - 1       # at the `#`
    cdef const uint8_t* at
    cdef set result = set()
    cdef CollisionLimit limit = None
    cdef Py_ssize_t many = 0, collisions
    cdef int c
    _enter(s, c'}')
    while True:
        c = _skip(s)
        if c == c'}':
            break
        if c < 0 or c == c')' or c == c']':
            _unclosed(s, start, c, c'}')
        at = s.pos
        collisions = s.collisions
        member = steal_ref(_form(s, c, True))
        try:
            limit = limit_collisions(s, at, limit, result, member, collisions, hashed)
            result.add(member)
            many += 1
            if len(result) != many:
                fail(s, at, f"expected distinct members in a set, got {shown(s, at)} again")
        except EdnDecodeError as error:
            _refuse_last(s, at, error)
        except RecursionError as error:     # members as deep as the limit allows, compared
            fail(s, at, f"expected members that can be compared, got {error}")
    s.pos += 1
    s.depth -= 1
    return frozenset(result) if hashed else result


cdef PyObject* _map(Source* s, bint hashed, PyObject* namespace) except NULL:
    # s.pos is at the brace; of a `#:namespace{}`: borrowed, else NULL.
    cdef const uint8_t* start = s.pos
    cdef const uint8_t* at
    cdef PyObject* key
    cdef PyObject* value
    cdef Py_ssize_t many = 0, base = s.count
    cdef bint as_text = s.keyword_keys      # keyword keys become plain text
    cdef bint has_text = False              # a string is among the keys: a StrDict
    cdef bint has_limit = False             # it lies behind the map
    cdef int c, status
    push(s, new_dict())
    _enter(s, c'}')
    while True:
        c = _skip(s)
        if c == c'}':
            break
        at = s.pos
        if c == c':' and namespace is NULL:
            key = read_key(s, as_text)
            push(s, key)
        elif c == c'"':
            key = read_string(s, True)
            push(s, key)
            if as_text:
                as_text = False
                has_text = True
                with_text(s, base)
        else:
            if c < 0 or c == c')' or c == c']':
                _unclosed(s, start, c, c'}')
            has_limit = _push_other_key(s, c, base, namespace, as_text, has_limit, hashed)
            key = s.items[s.count - 1]
            if as_text and c != c':' and PyUnicode_CheckExact(key):
                as_text = False
                has_text = True
                with_text(s, base)
        c = _skip(s)
        if unlikely(c < 0 or c == c')' or c == c']' or c == c'}'):
            if c < 0:
                _check_key(s, at, base, key)
            elif c == c'}':
                fail(s, s.pos, "odd number of forms in map: " + shown(s, start))
            _unclosed(s, start, c, c'}')
        value = _form_or_null(s, c, hashed)
        if unlikely(value is NULL):
            _blame_key(s, at, base, key)
        status = put(s.items[base], key, value)
        decref(value)
        s.count -= 1
        decref(key)
        many += 1
        if unlikely(status < 0 or PyDict_GET_SIZE(s.items[base]) != many):
            _not_put(s, at, status)
    s.pos += 1
    s.depth -= 1
    if has_limit:
        s.count -= 1
        decref(s.items[s.count])
    if hashed:
        freeze(s, base, start, has_text)
    s.count -= 1
    return s.items[base]


# -- behind a `#` --

cdef object _dispatch(Source* s, bint hashed):
    # A `#` and what it makes of the next form.
    cdef const uint8_t* start = s.pos
    cdef int point = -1, width = 1
    if start + 1 == s.end:
        cut(s, start, "expected a tag, '{', '_', ':', '#' or '^' after '#', got the end")
    if start[1] == c'{':
        s.pos += 1
        return _set(s, hashed)
    if start[1] == c':':
        return _namespaced_map(s, hashed)
    if start[1] == c'#':
        s.pos += 2
        _skip(s)
        return read_symbolic(s, start)
    if start[1] == c'^':
        return _with_metadata(s, hashed)
    point = code_point(start + 1, s.end, &width)
    # Clojure's reader has a table for Latin-1 and takes nothing past it
    if 0 <= point < 256 and chr(point).isalpha():
        return _tagged(s, hashed)
    if start[1] <= 0xC3 and is_partial(start + 1, s.end):
        not_utf8(s, start + 1)
    fail(s, start, "expected a tag, '{', '_', ':', '#' or '^' after '#', got "
         + shown(s, start + 1))


cdef object _namespaced_map(Source* s, bint hashed):
    # `#:ns{:a 1}` is `{:ns/a 1}`.
    cdef const uint8_t* start = s.pos
    cdef str namespace
    cdef bint is_last
    cdef int c
    s.pos += 2
    if s.pos == s.end:
        cut(s, start, "expected a namespace after '#:', got the end")
    if KIND[s.pos[0]] == BLANK or c'0' <= s.pos[0] <= c'9':
        fail(s, start, "expected a namespace after '#:', got " + shown(s, s.pos))
    try:
        namespace = read_name(s, "a namespace after '#:'")
    except EdnTruncated as error:
        if b"/" in (<const char*>start)[:s.end - start]:
            raise EdnDecodeError(*error.args)
        raise
    is_last = s.pos == s.end
    if "/" in namespace or not is_last and namespace in ("nil", "true", "false"):
        fail(s, start, f"expected a namespace after '#:', got {namespace!r}")
    if s.pos - start - 2 > LONGEST_NAMESPACE:
        fail(s, start, f"expected a namespace of at most {LONGEST_NAMESPACE} bytes, "
                       f"got {s.pos - start - 2}")
    c = s.pos[0] if not is_last else -1
    if c >= 0 and c != c';':
        c = skip_blank(s)
    if c < 0:
        cut(s, start, "expected a map after its namespace, got the end")
    if c != c'{':
        fail(s, start, "expected a map after its namespace, got " + shown(s, s.pos))
    return steal_ref(_map(s, hashed, <PyObject*>namespace))


cdef object _tagged(Source* s, bint hashed):
    # Little on the stack: a level of nested tags takes three functions.
    cdef const uint8_t* start = s.pos
    cdef str tag
    s.pos += 1
    tag = read_name(s, "a tag")
    function = _reader_of(s, start, tag)
    s.depth += 1
    if function is None and (tag == "inst" or tag == "uuid"):
        return _built_in(s, start, tag)
    value = _next(s, start, hashed)
    s.depth -= 1
    if function is None or s.discards:
        return Tagged(tag, value)
    return _call(s, start, function, value)


cdef object _reader_of(Source* s, const uint8_t* start, str tag):
    cdef dict readers = <dict>s.readers
    function = readers.get(tag)
    if s.pos < s.end and tag in ("nil", "true", "false"):
        fail(s, start, f"expected a tag, got {tag!r}")
    if function is None and tag not in ("inst", "uuid") and not s.tagged and not s.discards:
        if s.pos == s.end and begins_one(tag, ["inst", "uuid", *readers]):
            cut(s, start, f"expected a tag that has a reader, got #{tag}")
        fail(s, start, f"expected a tag that has a reader, got #{tag}")
    return function


cdef object _call(Source* s, const uint8_t* start, object function, object value):
    try:
        return function(value)
    except Exception as error:
        fail(s, start, f"expected what the reader of the tag takes, got {shown(s, start)}: "
                       f"{short_repr(error, 160)}")


cdef object _built_in(Source* s, const uint8_t* start, str tag):
    # An #inst or #uuid, behind its tag.
    cdef str what = "an RFC 3339 time in #inst" if tag == "inst" else "a UUID in #uuid"
    cdef int c = _skip(s)
    cdef const uint8_t* quote = s.pos
    # another tag may have a reader that returns text
    if c >= 0 and c != c'"' and (c != c'#' or quote + 1 < s.end and not <dict>s.readers):
        fail(s, start, f"expected {what}, got {shown(s, start)}")
    try:
        text = _next(s, start, False)
    except EdnTruncated:
        if c == c'"' and not begins(s, quote, tag == "inst"):
            fail(s, start, f"expected {what}, got {shown(s, start)}")
        raise
    s.depth -= 1
    value = None
    if type(text) is str:
        value = instant(text) if tag == "inst" else uuid_of(text)
    if value is None:
        fail(s, start, f"expected {what}, got {shown(s, start)}")
    return value


# -- metadata --

cdef object _with_metadata(Source* s, bint hashed):
    # `^meta value` or `#^meta value`: read, checked and dropped. A flood is a loop.
    cdef const uint8_t* start = s.pos
    cdef const uint8_t* at
    cdef int c = start[0]
    while c == c'^' or c == c'#' and s.pos + 1 < s.end and s.pos[1] == c'^':
        start = s.pos
        s.pos += 1 if c == c'^' else 2
        s.depth += 1
        meta = _next(s, start, False) if _may_be(s, b'":{^') else 0
        if type(meta) is not str and not isinstance(meta, (Keyword, Symbol, dict)):
            _refuse_constant(s, start, meta, "expected a symbol, keyword, string or map after "
                                             "'^', got " + shown(s, start))
        s.depth -= 1
        c = _skip(s)
    at = s.pos
    value = _next(s, start, hashed) if _may_be(s, b"[({") else 0
    if not isinstance(value, (Symbol, list, tuple, dict, set, frozenset)):
        _refuse_constant(s, at, value, "expected a symbol or a collection after metadata, got "
                                       + shown(s, at))
    return value


cdef bint _may_be(Source* s, bytes starts) except -1:
    # Return whether the next form, by its first bytes, is a symbol or begins with one of `starts`.
    cdef int c = _skip(s)
    if c == c'#' and s.pos + 1 < s.end:
        c = s.pos[1]
        if c == c'{':
            return c'[' in starts
        return c == c'^' or c == c':' or c != c'#' and len(<dict>s.readers) > 0
    if c == c'+' or c == c'-':
        return s.pos + 1 == s.end or not c'0' <= s.pos[1] <= c'9'
    if c < 0 or c == c'#' or c == c')' or c == c']' or c == c'}':
        return True     # which _next refuses
    return c in starts or c not in b'":{[(^\\0123456789'


cdef int _refuse_constant(
        Source* s, const uint8_t* at, object value, str message) except -1:
    # A constant that touches the end may become a symbol.
    if s.pos == s.end and (value is None or value is True or value is False):
        return cut(s, at, message)
    return fail(s, at, message)


# -- keys --

cdef bint _push_other_key(
        Source* s, int c, Py_ssize_t base, PyObject* namespace, bint as_text,
        bint has_limit, bint hashed) except -1:
    # A key that is neither string nor plain keyword, and below it the limit, if there is one.
    cdef const uint8_t* at = s.pos
    cdef Py_ssize_t collisions = s.collisions
    cdef CollisionLimit limit = <CollisionLimit>s.items[base + 1] if has_limit else None
    if namespace is not NULL and c == c':':
        key = qualified(steal_ref(read_keyword(s, False)), <str>namespace, as_text)
    else:
        key = steal_ref(_form(s, c, True))
        if namespace is not NULL and type(key) is Symbol:
            key = qualified(key, <str>namespace, False)
    try:
        limit = limit_collisions(s, at, limit, <object>s.items[base], key, collisions, hashed)
    except EdnDecodeError as error:
        _refuse_last(s, at, error)
    if limit is not None and not has_limit:
        push(s, new_ref(limit))
    push(s, new_ref(key))
    return limit is not None


cdef int with_text(Source* s, Py_ssize_t base) except -1:
    # The first string key came.
    cdef object plain = <object>s.items[base]
    cdef object result = StrDict()
    for key, value in (<dict>plain).items():
        result[Keyword(key) if type(key) is str else key] = value
    decref(s.items[base])
    s.items[base] = new_ref(result)
    return 0


cdef object NO_ENTRIES = FrozenDict()     # it cannot change, so all empty ones are this one


cdef PyObject* new_frozen() except NULL:
    return new_of(FrozenDict, ())


def frozen(dict plain, bint has_text):
    """Return `FrozenStrDict(plain)` or `FrozenDict(plain)`, in a third of the time."""
    return _frozen(plain, has_text)


cdef object _frozen(object plain, bint has_text):
    # A dict, or a map that `new_frozen` made: it becomes the result itself.
    cdef object kind = FrozenStrDict if has_text else FrozenDict
    cdef object result = plain, total = 0
    cdef Py_ssize_t place = 0
    cdef PyObject* key
    cdef PyObject* value
    if PyDict_GET_SIZE(<PyObject*>plain) == 0:
        return NO_ENTRIES
    while PyDict_Next(<PyObject*>plain, &place, &key, &value):
        total += hash((<object>key, <object>value))     # as in FrozenDict.__init__
    if type(plain) is not kind:
        result = steal_ref(new_of(kind, ()))
        merge(result, plain, True)
    PyObject_GenericSetAttr(result, "_hash", hash((FrozenDict, len(result), total)))
    return result


cdef int freeze(Source* s, Py_ssize_t base, const uint8_t* start, bint has_text) except -1:
    cdef object plain = <object>s.items[base]
    try:
        result = _frozen(plain, has_text)
    except (TypeError, RecursionError) as error:    # what a reader function made
        fail(s, start, f"expected a map that can be hashed, got {error}")
    decref(s.items[base])
    s.items[base] = new_ref(result)
    return 0


cdef int _not_put(Source* s, const uint8_t* at, int status) except -1:
    if status == 0:
        return fail(s, at, f"expected distinct keys in a map, got {shown(s, at)} again")
    return put_failed(s, at)


cdef int put_failed(Source* s, const uint8_t* at) except -1:
    try:
        return raised()
    except RecursionError as error:     # keys as deep as the limit allows, compared
        return fail(s, at, f"expected keys that can be compared, got {error}")


cdef int _check_key(
        Source* s, const uint8_t* at, Py_ssize_t base, PyObject* key) except -1:
    # The text ended behind the key, or in its value: it may be one that the map has.
    cdef bint is_there = False
    try:
        is_there = <object>key in <dict>s.items[base]
    except RecursionError:
        pass
    if is_there and not _can_change(s, at):
        fail(s, at, f"expected distinct keys in a map, got {shown(s, at)} again")
    return 0


cdef int _blame_key(
        Source* s, const uint8_t* at, Py_ssize_t base, PyObject* key) except -1:
    # Its value was refused.
    try:
        return raised()
    except EdnTruncated:
        _check_key(s, at, base, key)
        raise


cdef int _refuse_last(Source* s, const uint8_t* at, object error) except -1:
    # The key or member from `at` to s.pos was refused; if it touches the end, it may be another.
    if s.pos == s.end and _can_change(s, at):
        raise EdnTruncated(*error.args)
    raise error


cdef bint _can_change(Source* s, const uint8_t* at) except -1:
    # Return whether the form from `at` to the end is another one with more text.
    cdef Source other
    cdef bytes form = (<const char*>at)[:s.end - at]
    if KIND[form[len(form) - 1]] != IN_TOKEN and KIND[form[len(form) - 1]] != HIGH:
        return False
    for more in (b"a ", b"0 ", b"1 ", b"ewline ", b"pace ", b"ab ", b"eturn ", b"ackspace ",
                 b"ormfeed ", b"0041 "):
        more = form + more
        open_source(&other, <const uint8_t*><const char*>more, len(more), s)
        other.discards = 1      # no reader function is called
        try:
            steal_ref(_form(&other, other.pos[0], True))
            if other.pos == other.end - 1:
                return True
        except EdnDecodeError:
            pass
        finally:
            drop_source(&other)
    return False
