# Names as keys of maps to MessagePack, and the numbers of those that came before in a packet.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t
from libc.string cimport memcmp, memcpy, memset

from chansock._fast.io.cpython_api cimport (
    PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_IS_COMPACT_ASCII, hash_of_text)
from chansock._fast.edn.names cimport Known, known
from chansock._fast.edn.source cimport decref, incref
from chansock._fast.msgpack.scalars cimport (
    CACHED_KEY, KEYWORD, put_known, write_string, write_text)

cdef extern from "Python.h":
    int PyUnicode_KIND(PyObject* text) noexcept
    Py_hash_t PyObject_Hash(object value) except -1

cdef enum:
    MOST_KEYS = 256
    BUCKETS = 256


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
    # Of a key that came before, else -1.
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


cdef uint8_t* put_key(Write* w, uint8_t* at, PyObject* name, bint is_string) noexcept:
    cdef Py_ssize_t size
    cdef Known* entry
    cdef int number
    if w.keys is not NULL:
        number = _number(w.keys, name, is_string)
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
    if w.keys is not NULL:
        _learn(w.keys, name, is_string)
    return at


cdef uint8_t* write_key(Write* w, uint8_t* at, object name, bint is_string) except NULL:
    # The hash of what stands for another key may not be made yet.
    cdef uint8_t* behind
    PyObject_Hash(name)
    behind = put_key(w, at, <PyObject*>name, is_string)
    if behind is NULL:
        if is_string:
            behind = write_string(&w.state.output, at, name)
        else:
            behind = write_text(&w.state.output, at, KEYWORD, name)
        if w.keys is not NULL:
            _learn(w.keys, <PyObject*>name, is_string)
    return behind


cdef bint keep_out(Write* w) noexcept:
    cdef bint was_off
    if w.keys is NULL:
        return False
    was_off = w.keys.is_off
    w.keys.is_off = True
    return was_off


cdef void let_in(Write* w, bint was_off) noexcept:
    if w.keys is not NULL:
        w.keys.is_off = was_off


cdef void forget_keys(Keys* keys) noexcept:
    while keys.count:
        keys.count -= 1
        decref(keys.names[keys.count])
