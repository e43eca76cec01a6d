# Sente's MessagePack to values, by recursive descent: the format's own types, and the extensions
# that Sente adds to it (taoensso.msgpack; see the part `extensions`). The reader knows the
# envelope, nothing else of packets. As in edn, it refuses what Python would merge.
#
# The reader trusts a length only if that many bytes are there: each element takes at least one. So
# a peer's announcement alone allocates no memory. References are counted by hand, as in edn/parser:
# unfinished collections lie on the stack of the Source, which drops them on an error.

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.string cimport memcpy

from chansock._fast.io.cpython_api cimport (
    PyDict_GET_SIZE, PyUnicode_DATA, Py_TYPE, decref, incref, new_dict, new_float, new_int, new_ref,
    new_small_int, new_text, put, steal_ref, unlikely)
from chansock._fast.edn.reader cimport (
    CollisionLimit, Name, Source, cached_text, fail, freeze, limit_collisions, limit_ratio,
    new_frozen, plain_name, push, put_failed, ratio_of, take_list, take_tuple, with_text)
from chansock._fast.edn.writer cimport keyword_trouble, shown_value
from chansock._fast.msgpack.writer cimport CACHED_KEY, KEYWORD, RATIO, SET

from chansock.values import Keyword

include "extensions.pxi"

cdef extern from "msgpack/msgpack.h":
    uint32_t chansock_two(const uint8_t* p) noexcept
    double chansock_float(const uint8_t* p) noexcept
    double chansock_double(const uint8_t* p) noexcept
    bint chansock_is_ascii(const uint8_t* p, Py_ssize_t size) noexcept

cdef extern from "Python.h":
    PyObject* new_unsigned "PyLong_FromUnsignedLongLong"(unsigned long long value) except NULL

cdef enum:
    MOST_KEYS = 256
    LONGEST_CACHED = 64     # bytes of a string key

cdef PyTypeObject* KEYWORD_TYPE = <PyTypeObject*>Keyword

# The map keys of a packet that are keywords or strings, in the order in which they first came;
# each is owned.
cdef struct Keys:
    int count
    PyObject* plain[256]        # as a key of a dict: the text, or a Keyword that edn can't spell
    PyObject* keyword[256]      # NULL: a string


# One read of a packet.
cdef struct Read:
    Source* s
    Keys keys


cdef int read_envelope(Source* s, PyObject** parts) except -1:
    cdef Read r
    cdef int i
    r.s = s
    r.keys.count = 0
    try:
        return _envelope(&r, parts)
    finally:
        for i in range(r.keys.count):
            decref(r.keys.plain[i])
            if r.keys.keyword[i] is not NULL:
                decref(r.keys.keyword[i])


cdef int _envelope(Read* r, PyObject** parts) except -1:
    cdef Source* s = r.s
    cdef const uint8_t* start = s.pos
    cdef Py_ssize_t base = s.count, size = 0, left, i, _i, behind
    if s.pos == s.end:
        return fail(s, s.pos, "expected a packet `[value cb-id]`, got nothing")
    if s.pos[0] == 0xC0:
        s.pos += 1
        left = 0
    else:
        left = _array_size(s)
        if left < 0:
            value = steal_ref(_value(r, False))
            return fail(
                s, start, f"expected a packet `[value cb-id]`, got {shown_value(value)}")
    s.depth = 1
    if left:
        start = s.pos
        size = _array_size(s)
        if 1 <= size <= 2:
            s.depth = 2
            for _i in range(size):
                push(s, _value(r, False))
            s.depth = 1
            if Py_TYPE(s.items[base]) != KEYWORD_TYPE:
                push(s, take_list(s, base))
                size = 0
        else:
            s.pos = start
            size = 0
            push(s, _value(r, False))
        left -= 1
    behind = base + (size or 1)
    for i in range(left):
        push(s, _value(r, False))
        if i:
            s.count -= 1
            decref(s.items[s.count])
    parts[0] = s.items[base] if s.count > base else new_ref(None)
    parts[1] = s.items[base + 1] if size == 2 else new_ref(None)
    parts[2] = s.items[behind] if s.count > behind else new_ref(None)
    s.count = base
    s.depth = 0
    return <int>size


# -- bytes --

cdef int _short(Source* s, const uint8_t* at, Py_ssize_t size) except -1:
    return fail(s, at, f"expected {size} bytes, got {s.end - s.pos}: the end")


cdef inline const uint8_t* _take(Source* s, const uint8_t* at, Py_ssize_t size) except NULL:
    # The next `size` bytes, of what begins at `at`.
    cdef const uint8_t* p = s.pos
    if unlikely(s.end - p < size):
        _short(s, at, size)
    s.pos = p + size
    return p


cdef inline Py_ssize_t _length(Source* s, const uint8_t* at, int width) except -1:
    cdef const uint8_t* p = _take(s, at, width)
    return p[0] if width == 1 else chansock_two(p) if width == 2 else chansock_four(p)


cdef inline Py_ssize_t _announced(
        Source* s, const uint8_t* at, Py_ssize_t size, int each) except -1:
    # So many elements of at least `each` bytes.
    if unlikely(size * each > s.end - s.pos):
        fail(s, at, f"expected {size} {'entries' if each > 1 else 'elements'}, "
                    f"got {s.end - s.pos} bytes: the end")
    return size


cdef Py_ssize_t _array_size(Source* s) except -2:
    # Of the array at s.pos, which is there; -1: it is none.
    cdef const uint8_t* at = s.pos
    cdef Py_ssize_t size
    cdef int c = at[0] if at < s.end else 0
    if 0x90 <= c <= 0x9F:
        s.pos += 1
        size = c & 0xF
    elif c == 0xDC or c == 0xDD:
        s.pos += 1
        size = _length(s, at, 2 if c == 0xDC else 4)
    else:
        return -1
    return _announced(s, at, size, 1)


# -- one value --

cdef PyObject* _value(Read* r, bint hashed) except NULL:
    # `hashed`: in a map key or set member, so it must be hashable.
    cdef Source* s = r.s
    cdef const uint8_t* at = s.pos
    cdef int c
    if unlikely(at == s.end):
        fail(s, at, "expected a value, got the end")
    c = at[0]
    s.pos += 1
    if c < 0x80:
        return new_small_int(c)
    if c >= 0xE0:
        return new_small_int(<int8_t>c)
    if c >= 0xC0:
        if c == 0xC0:
            return new_ref(None)
        elif c == 0xC2:
            return new_ref(False)
        elif c == 0xC3:
            return new_ref(True)
        elif c == 0xCB:
            return new_float(chansock_double(_take(s, at, 8)))
        elif c == 0xD9:
            return _text(s, at, _length(s, at, 1))
        elif c == 0xCC:
            return new_small_int(_take(s, at, 1)[0])
        elif c == 0xCD:
            return new_small_int(<long>chansock_two(_take(s, at, 2)))
        elif c == 0xCE:
            return new_int(chansock_four(_take(s, at, 4)))
        elif c == 0xCF:
            return new_unsigned(chansock_eight(_take(s, at, 8)))
        elif c == 0xD0:
            return new_small_int(<int8_t>_take(s, at, 1)[0])
        elif c == 0xD1:
            return new_small_int(<int16_t>chansock_two(_take(s, at, 2)))
        elif c == 0xD2:
            return new_small_int(<int32_t>chansock_four(_take(s, at, 4)))
        elif c == 0xD3:
            return new_int(<int64_t>chansock_eight(_take(s, at, 8)))
        elif c == 0xCA:
            return new_float(chansock_float(_take(s, at, 4)))
        elif c == 0xDA:
            return _text(s, at, _length(s, at, 2))
        elif c == 0xDB:
            return _text(s, at, _length(s, at, 4))
        elif c == 0xDC:
            return _array(r, at, _length(s, at, 2), hashed)
        elif c == 0xDD:
            return _array(r, at, _length(s, at, 4), hashed)
        elif c == 0xDE:
            return _map(r, at, _length(s, at, 2), hashed)
        elif c == 0xDF:
            return _map(r, at, _length(s, at, 4), hashed)
        elif 0xC4 <= c <= 0xC6:
            return new_ref(_bytes(s, at, _length(s, at, 1 << (c - 0xC4))))
        elif c == 0xC1:
            fail(s, at, "expected a value, got the byte 0xc1, which MessagePack never uses")
        return _extension(r, at, _extension_size(s, at, c), hashed)
    if c >= 0xA0:
        return _text(s, at, c & 0x1F)
    if c >= 0x90:
        return _array(r, at, c & 0xF, hashed)
    return _map(r, at, c & 0xF, hashed)


cdef inline PyObject* _text(Source* s, const uint8_t* at, Py_ssize_t size) except NULL:
    cdef const uint8_t* p = _take(s, at, size)
    cdef PyObject* text
    if size > 1 and chansock_is_ascii(p, size):
        text = new_text(size, 127)
        memcpy(PyUnicode_DATA(text), p, <size_t>size)
        return text
    return decoded(s, p, size)


cdef bytes _bytes(Source* s, const uint8_t* at, Py_ssize_t size):
    cdef const uint8_t* p = _take(s, at, size)
    return PyBytes_FromStringAndSize(<const char*>p, size)


# -- collections --

cdef inline int _enter(Source* s, const uint8_t* at) except -1:
    if unlikely(s.depth >= s.max_depth):
        fail(s, at, f"expected at most {s.max_depth} values around a value, got more")
    s.depth += 1
    return 0


cdef PyObject* _array(Read* r, const uint8_t* at, Py_ssize_t size, bint hashed) except NULL:
    cdef Source* s = r.s
    cdef Py_ssize_t _i, base = s.count
    if _announced(s, at, size, 1):
        _enter(s, at)
        for _i in range(size):
            push(s, _value(r, hashed))
        s.depth -= 1
    return take_tuple(s, base) if hashed else take_list(s, base)


cdef PyObject* _map(Read* r, const uint8_t* start, Py_ssize_t size, bint hashed) except NULL:
    cdef Source* s = r.s
    cdef const uint8_t* at
    cdef PyObject* key
    cdef PyObject* value
    cdef Py_ssize_t many, base = s.count, collisions
    cdef bint as_text = s.keyword_keys      # keyword keys become plain text
    cdef bint has_text = False              # a string is among the keys: a StrDict
    cdef bint is_string
    cdef CollisionLimit limit = None
    _announced(s, start, size, 2)
    push(s, new_frozen() if hashed and size else new_dict())
    if size:
        _enter(s, start)
    for many in range(1, size + 1):
        at = s.pos
        is_string = False
        key = _name(r, as_text, &is_string)
        if key is NULL:
            collisions = s.collisions
            key = _value(r, True)
            push(s, key)
            limit = limit_collisions(
                s, at, limit, <object>s.items[base], <object>key, collisions, hashed)
        else:
            push(s, key)
            if is_string and as_text:
                as_text = False
                has_text = True
                with_text(s, base)
        value = _value(r, hashed)
        if unlikely(put(s.items[base], key, value) < 0):
            decref(value)
            put_failed(s, at)
        decref(value)
        if unlikely(PyDict_GET_SIZE(s.items[base]) != many):
            fail(s, at, f"expected distinct keys in a map, got {shown_value(<object>key)} again")
        s.count -= 1
        decref(key)
    if size:
        s.depth -= 1
    if hashed:
        freeze(s, base, start, has_text)
    s.count -= 1
    return s.items[base]


# -- keys --

cdef inline PyObject* _name(Read* r, bint as_text, bint* is_string) except? NULL:
    # The key at s.pos, if it is a keyword, a string, or a reference to one; else NULL.
    cdef Source* s = r.s
    cdef const uint8_t* at = s.pos
    cdef int c, i
    if at == s.end:
        return NULL
    c = at[0]
    if c == 0xD4 and s.end - at >= 3 and at[1] == CACHED_KEY:
        s.pos += 3
        i = at[2]
        if unlikely(i >= r.keys.count):
            fail(s, at, f"expected one of {r.keys.count} cached keys, got {i}")
        is_string[0] = r.keys.keyword[i] is NULL
        if as_text or is_string[0]:
            incref(r.keys.plain[i])
            return r.keys.plain[i]
        incref(r.keys.keyword[i])
        return r.keys.keyword[i]
    if 0xD4 <= c <= 0xD8 and s.end - at >= 2 and at[1] == KEYWORD:
        s.pos += 2
        return _keyword_key(r, at, <Py_ssize_t>1 << (c - 0xD4), as_text)
    if c == 0xC7 and s.end - at >= 3 and at[2] == KEYWORD:
        s.pos += 3
        return _keyword_key(r, at, at[1], as_text)
    if 0xA0 <= c <= 0xBF or 0xD9 <= c <= 0xDB:
        is_string[0] = True
        return _string_key(r, at, c)
    if 0xC7 <= c <= 0xC9:
        return _long_keyword_key(r, at, c, as_text)
    return NULL


cdef PyObject* _keyword_key(
        Read* r, const uint8_t* at, Py_ssize_t size, bint as_text) except NULL:
    cdef Source* s = r.s
    cdef const uint8_t* p = _take(s, at, size)
    cdef Name* name = plain_name(s, p, size)
    cdef PyObject* plain
    cdef PyObject* keyword
    if name is not NULL:
        plain = name.text
        keyword = name.keyword
        incref(plain)
        incref(keyword)
    else:
        text = steal_ref(decoded(s, p, size))
        keyword = new_ref(Keyword(text))
        # one that a plain str can't be written as says what it is
        plain = new_ref(text if keyword_trouble(text) is None else <object>keyword)
    if r.keys.count < MOST_KEYS:
        r.keys.plain[r.keys.count] = plain
        r.keys.keyword[r.keys.count] = keyword
        r.keys.count += 1
        incref(plain if as_text else keyword)
    else:
        decref(keyword if as_text else plain)
    return plain if as_text else keyword


cdef PyObject* _long_keyword_key(
        Read* r, const uint8_t* at, int c, bint as_text) except? NULL:
    # NULL: it is another extension.
    cdef Source* s = r.s
    cdef Py_ssize_t size
    s.pos += 1
    size = _length(s, at, 1 << (c - 0xC7))
    if _take(s, at, 1)[0] == KEYWORD:
        return _keyword_key(r, at, size, as_text)
    s.pos = at
    return NULL


cdef PyObject* _string_key(Read* r, const uint8_t* at, int c) except NULL:
    cdef Source* s = r.s
    cdef const uint8_t* p
    cdef Py_ssize_t size = c & 0x1F
    cdef PyObject* key
    s.pos += 1
    if c >= 0xD9:
        size = _length(s, at, 1 << (c - 0xD9))
    p = _take(s, at, size)
    if 0 < size <= LONGEST_CACHED and chansock_is_ascii(p, size):
        key = cached_text(s, p, size)
    else:
        key = decoded(s, p, size)
    if r.keys.count < MOST_KEYS:
        r.keys.plain[r.keys.count] = key
        r.keys.keyword[r.keys.count] = NULL
        r.keys.count += 1
        incref(key)
    return key


# -- extensions --

cdef Py_ssize_t _extension_size(Source* s, const uint8_t* at, int c) except -1:
    if c >= 0xD4:
        return <Py_ssize_t>1 << (c - 0xD4)
    return _length(s, at, 1 << (c - 0xC7))


cdef PyObject* _extension(Read* r, const uint8_t* at, Py_ssize_t size, bint hashed) except NULL:
    cdef Source* s = r.s
    cdef int kind = <int8_t>_take(s, at, 1)[0]
    cdef const uint8_t* p = _take(s, at, size)
    cdef Name* name
    cdef const uint8_t* end
    if kind == KEYWORD:
        name = plain_name(s, p, size)
        if name is not NULL:
            incref(name.keyword)
            return name.keyword
        return new_ref(Keyword(steal_ref(decoded(s, p, size))))
    if kind == SET or kind == RATIO:
        end = s.end
        s.pos = p
        s.end = p + size
        value = _set(r, at, hashed) if kind == SET else _ratio(r, at, hashed)
        if s.pos != s.end:
            fail(s, s.pos, f"expected the end of an extension, got {s.end - s.pos} bytes more")
        s.end = end
        return new_ref(value)
    return new_ref(read_extension(s, at, kind, p, size, hashed))


cdef object _set(Read* r, const uint8_t* start, bint hashed):
    cdef Source* s = r.s
    cdef const uint8_t* at
    cdef set result = set()
    cdef CollisionLimit limit = None
    cdef Py_ssize_t many, collisions, size = _array_size(s)
    if size < 0:
        fail(s, start, "expected an array in a set, got "
                       + (f"the byte {s.pos[0]:#04x}" if s.pos < s.end else "nothing"))
    if size:
        _enter(s, start)
    for many in range(1, size + 1):
        at = s.pos
        collisions = s.collisions
        member = steal_ref(_value(r, True))
        limit = limit_collisions(s, at, limit, result, member, collisions, hashed)
        try:
            result.add(member)
        except RecursionError as error:     # members as deep as the limit allows, compared
            fail(s, at, f"expected members that can be compared, got {error}")
        if len(result) != many:
            fail(s, at, f"expected distinct members in a set, got {shown_value(member)} again")
    if size:
        s.depth -= 1
    return frozenset(result) if hashed else result


cdef object _ratio(Read* r, const uint8_t* at, bint hashed):
    if hashed:
        limit_ratio(r.s, at)
    top = _integer(r)
    bottom = _integer(r)
    if bottom <= 0:     # so that its reduced form has no more bits than it has here
        fail(r.s, at, f"expected a ratio over a positive integer, got {top}/{bottom}")
    return ratio_of(top, bottom)


cdef object _integer(Read* r):
    cdef Source* s = r.s
    cdef int c = s.pos[0] if s.pos < s.end else 0
    if 0x80 <= c <= 0xCB or 0xD4 <= c <= 0xDF:
        fail(s, s.pos, f"expected two integers in a ratio, got the byte {c:#04x}")
    return steal_ref(_value(r, True))
