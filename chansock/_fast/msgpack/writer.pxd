# Values to Sente's MessagePack. Knows the envelope, nothing else of packets.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.edn.records cimport Shape
from chansock._fast.msgpack.keys cimport Write


@cython.final
cdef class MessagePackWriter:
    # Holds options alone: one writer serves any number of writes, nested ones too.
    cdef readonly bint keyword_keys     # a plain str key of a plain dict is a keyword
    cdef readonly int max_depth
    cdef readonly object default        # what gives a writable value for any other, or None

    # `[name data]`, where name is a keyword's and data that is None is left out; no key refers
    # to another, so that it can stand in any packet.
    cdef bytes put_event(self, object name, object data, bint has_data)
    # `[value cb-id]`. It is put into `out`, in place of what that holds, and None given; what is
    # long, and all without `out`, is given.
    cdef bytes put_packet(self, object value, object cb_id, WriteBuffer out)

    cdef bytes _alone(self, object value, int place)
    cdef bytes _put_event(self, object name, object data, bint has_data, bint is_careful)
    cdef bytes _put_packet(
        self, object value, object cb_id, WriteBuffer out, bint is_careful)

    # All take `at`, at most at the output's end, and return the place behind what they put.
    cdef uint8_t* _value(self, Write* w, uint8_t* at, PyObject* value) except NULL
    cdef uint8_t* _map(
        self, Write* w, uint8_t* at, PyObject* value, bint keyword_keys) except NULL
    cdef uint8_t* _members(self, Write* w, uint8_t* at, PyObject* members) except NULL

    # What may call Python code, and so holds what it writes.
    cdef uint8_t* _entry(
        self, Write* w, uint8_t* at, PyObject* key_, PyObject* item_, int key_place,
        Py_ssize_t* converted) except NULL
    cdef uint8_t* _member(
        self, Write* w, uint8_t* at, PyObject* member_, Py_ssize_t index) except NULL
    cdef uint8_t* _key(self, Write* w, uint8_t* at, object key, bint keyword_keys) except NULL
    cdef uint8_t* _set(self, Write* w, uint8_t* at, object members) except NULL
    cdef uint8_t* _other(self, Write* w, uint8_t* at, object value, int place) except NULL
    cdef uint8_t* _based(
        self, Write* w, uint8_t* at, object value, Shape shape, int place) except NULL
    cdef uint8_t* _whole(self, Write* w, uint8_t* at, object value, int place) except NULL
    cdef uint8_t* _ratio(self, Write* w, uint8_t* at, object value, int place) except NULL
    cdef uint8_t* _moment(self, Write* w, uint8_t* at, object value, int place) except NULL
    cdef uint8_t* _numbers(self, Write* w, uint8_t* at, object value, int place) except NULL
    cdef uint8_t* _convert(
        self, Write* w, uint8_t* at, object value, int place, str expected) except NULL
    cdef uint8_t* _again(self, Write* w, uint8_t* at, object value, int place) except NULL
    cdef int _distinct(self, Write* w, Py_ssize_t marked, object keys, int place) except -1
