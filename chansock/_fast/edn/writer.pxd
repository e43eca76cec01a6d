# Python values to edn text, spelled as Clojure's pr-str spells it.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.edn.records cimport Shape
from chansock._fast.edn.encode_state cimport EncodeState


@cython.final
cdef class Writer:
    # Holds options alone: one writer serves any number of writes, nested ones too.
    cdef readonly bint keyword_keys     # a plain str key of a plain dict is a keyword
    cdef readonly int max_depth
    cdef readonly bint tagged           # Tagged is written; else it is refused
    cdef readonly object default        # what gives a writable value for any other, or None

    # `[first second]`, each as if it stood alone. With is_named the first is a str and
    # stands as a keyword: an event, which counts as deep as it stands in a batch; without
    # has_second it is `[first]`. It is put into `out`, in place of what that holds, and None
    # given; what is long, and all without `out`, is given.
    cdef bytes put_pair(
        self, object first, object second, bint is_named, bint has_second, WriteBuffer out)

    cdef bytes _alone(self, object value, int place)
    cdef bytes _put_pair(
        self, object first, object second, bint is_named, bint has_second, WriteBuffer out,
        bint is_careful)
    cdef bytes _put_alone(self, object value, int place, bint is_careful)

    # All take `at`, at most at the output's end, and return the place behind what they put.
    cdef uint8_t* _value(self, EncodeState* w, uint8_t* at, PyObject* value) except NULL
    cdef uint8_t* _map(
        self, EncodeState* w, uint8_t* at, PyObject* value, bint keyword_keys) except NULL
    cdef uint8_t* _members(
        self, EncodeState* w, uint8_t* at, PyObject* members, uint8_t close) except NULL

    # What may call Python code, and so holds what it writes.
    cdef uint8_t* _entry(
        self, EncodeState* w, uint8_t* at, PyObject* key_, PyObject* item_, int key_place,
        Py_ssize_t* converted) except NULL
    cdef uint8_t* _member(
        self, EncodeState* w, uint8_t* at, PyObject* member_, Py_ssize_t index) except NULL
    cdef uint8_t* _key(self, EncodeState* w, uint8_t* at, object key, bint keyword_keys) except NULL
    cdef uint8_t* _set(self, EncodeState* w, uint8_t* at, object members) except NULL
    cdef uint8_t* _tagged(self, EncodeState* w, uint8_t* at, object value) except NULL
    cdef uint8_t* _other(self, EncodeState* w, uint8_t* at, object value, int place) except NULL
    cdef uint8_t* _based(
        self, EncodeState* w, uint8_t* at, object value, Shape shape, int place) except NULL
    cdef uint8_t* _float(self, EncodeState* w, uint8_t* at, double value) except NULL
    cdef uint8_t* _uuid(self, EncodeState* w, uint8_t* at, object value) except NULL
    cdef uint8_t* _moment(self, EncodeState* w, uint8_t* at, object value, int place) except NULL
    cdef uint8_t* _convert(
        self, EncodeState* w, uint8_t* at, object value, int place, str expected) except NULL
    cdef uint8_t* _again(self, EncodeState* w, uint8_t* at, object value, int place) except NULL

    cdef int _distinct(self, EncodeState* w, Py_ssize_t marked, object keys, int place) except -1
