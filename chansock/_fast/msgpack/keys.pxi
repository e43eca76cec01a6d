# A part of msgpack/writer: names as keys of maps, and the numbers of the keys that came before in a
# packet.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcmp, memcpy, memset

from chansock._fast.io.cpython_api cimport (
    PyObject_Hash, PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII, PyUnicode_KIND,
    decref, hash_of_text, incref)
from chansock._fast.edn.writer cimport EncodeState, Known, known

cdef enum:
    MOST_KEYS = 256
    BUCKETS = 256


# The map keys of a packet that were written as keywords or strings. If a key comes again, its
# number is written instead. Sente's readers number the keys that are written in full, so each of
# these is entered.
cdef struct Keys:
    int count
    int before              # the key before this one
    bint is_off             # in a key or member, whose bytes are compared with those of others
    PyObject* names[256]    # owned
    uint8_t is_string[256]
    uint8_t following[256]  # what came behind it the last time: it is tried first
    uint16_t heads[256]     # of chains by hash; number + 1, so 0 is their end
    uint16_t chained[256]


cdef inline bint _is_same(PyObject* a, PyObject* b) noexcept:
    # Text in the one form that it has.
    cdef Py_ssize_t size = PyUnicode_GET_LENGTH(a)
    if a == b:
        return True
    return (hash_of_text(a) == hash_of_text(b) and size == PyUnicode_GET_LENGTH(b)
            and PyUnicode_KIND(a) == PyUnicode_KIND(b)
            and memcmp(PyUnicode_DATA(a), PyUnicode_DATA(b),
                       <size_t>(size * PyUnicode_KIND(a))) == 0)


cdef inline int _number(Keys* keys, PyObject* name, bint is_string) noexcept:
    # Return the number of a key that came before, else -1.
    cdef int number
    if keys.count == 0 or keys.is_off:
        return -1
    number = keys.following[keys.before]
    if keys.names[number] == name and keys.is_string[number] == is_string:
        keys.before = number
        return number
    return _searched(keys, name, is_string)


cdef int _searched(Keys* keys, PyObject* name, bint is_string) noexcept:
    cdef int number = keys.heads[<size_t>hash_of_text(name) & (BUCKETS - 1)]
    while number:
        number -= 1
        if keys.is_string[number] == is_string and _is_same(keys.names[number], name):
            keys.following[keys.before] = <uint8_t>number
            keys.before = number
            return number
        number = keys.chained[number]
    return -1


cdef void _learn(Keys* keys, PyObject* name, bint is_string) noexcept:
    # A key that is written in full, so that the reader counts it.
    cdef int number = keys.count
    cdef size_t bucket = <size_t>hash_of_text(name) & (BUCKETS - 1)
    if number == MOST_KEYS:
        return
    if number == 0:
        memset(keys.heads, 0, sizeof(keys.heads))
        keys.before = 0
    incref(name)
    keys.names[number] = name
    keys.is_string[number] = is_string
    keys.chained[number] = keys.heads[bucket]
    keys.heads[bucket] = <uint16_t>(number + 1)
    keys.following[number] = 0
    keys.following[keys.before] = <uint8_t>number
    keys.before = number
    keys.count += 1


cdef uint8_t* put_key(
        EncodeState* w, uint8_t* at, PyObject* name, bint is_string) noexcept:
    # A str or a Keyword as key, whose hash is made, within the margin; NULL: it takes more.
    cdef Keys* keys = <Keys*>w.keys
    cdef Py_ssize_t size
    cdef Known* entry
    cdef int number
    if keys is not NULL:
        number = _number(keys, name, is_string)
        if number >= 0:
            at[0] = 0xD4
            at[1] = CACHED_KEY
            at[2] = <uint8_t>number
            return at + 3
    if is_string:
        size = PyUnicode_GET_LENGTH(name)
        if size >= 32 or not PyUnicode_IS_COMPACT_ASCII(name):
            return NULL
        at[0] = 0xA0 | <uint8_t>size
        memcpy(at + 1, PyUnicode_DATA(name), <size_t>size)
        at += size + 1
    else:
        entry = known(name)
        if entry is NULL or entry.size == 0:
            return NULL
        at = put_known(at, entry)
    if keys is not NULL:
        _learn(keys, name, is_string)
    return at


cdef uint8_t* write_key(
        EncodeState* w, uint8_t* at, object name, bint is_string) except NULL:
    # The same for any; a keyword's name was checked.
    cdef Keys* keys = <Keys*>w.keys
    cdef uint8_t* behind
    PyObject_Hash(name)     # that of a value that stands for another may not be made yet
    behind = put_key(w, at, <PyObject*>name, is_string)
    if behind is NULL:
        if is_string:
            behind = write_string(&w.output, at, name)
        else:
            behind = write_text(&w.output, at, KEYWORD, name)
        if keys is not NULL:
            _learn(keys, <PyObject*>name, is_string)
    return behind


cdef void forget_keys(Keys* keys) noexcept:
    while keys.count:
        keys.count -= 1
        decref(keys.names[keys.count])
