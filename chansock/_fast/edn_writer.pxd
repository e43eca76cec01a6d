# Python values to edn text, spelled as Clojure's pr-str spells it.

cimport cython
from libc.stdint cimport uint8_t

from chansock._fast.buffer cimport WriteBuffer


# One write under way, on the caller's stack.
cdef struct Walk:
    int depth
    int hops                # through default= and Enum, on the way to the present value
    Py_ssize_t converted    # values written as another: Enum, subclass, default=, NaN


@cython.final
cdef class Writer:
    # Holds options alone: one writer serves any number of writes, nested ones too.
    cdef readonly bint keyword_keys     # a plain str key of a plain dict is a keyword
    cdef readonly int max_depth
    cdef readonly bint tagged           # Tagged is written; else it is refused
    cdef readonly object default        # what gives a writable value for any other, or None

    # Put value behind what is there; on failure the buffer is as it was.
    cdef int write(self, WriteBuffer out, object value) except -1

    cdef int _value(self, WriteBuffer out, object value, Walk* w) except -1
    cdef int _key(self, WriteBuffer out, object key, Walk* w, bint keyword_keys) except -1
    cdef int _other(self, WriteBuffer out, object value, Walk* w, int place) except -1
    cdef int _moment(self, WriteBuffer out, object value, Walk* w, int place) except -1
    cdef int _again(self, WriteBuffer out, object value, Walk* w, int place) except -1
    cdef int _convert(
        self, WriteBuffer out, object value, Walk* w, int place, str expected) except -1
    cdef int _members(self, WriteBuffer out, object members, uint8_t close, Walk* w) except -1
    cdef int _set(self, WriteBuffer out, object members, Walk* w) except -1
    cdef int _map(self, WriteBuffer out, dict value, Walk* w, bint keyword_keys) except -1
    cdef int _tagged(self, WriteBuffer out, object value, Walk* w) except -1
    cdef int _enter(self, Walk* w) except -1
    cdef int _distinct(self, object keys, int place) except -1
