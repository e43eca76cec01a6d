# Values to Sente's MessagePack: what the other modules of the engine use of it.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.edn.writer cimport EncodeState

cdef enum:
    # The extensions that Sente adds to the format
    KEYWORD = 0
    SYMBOL = 1
    CHARACTER = 2
    RATIO = 3
    SET = 4
    INTS = 5
    FLOATS = 6
    DOUBLES = 7
    CACHED_KEY = 8
    UUID_TEXT = 9
    INSTANT = -1        # the format's own

# Declared, and so exported, only to keep compilers from inlining these into the loops over a map or
# a list, whose variables would then not fit into registers.
cdef uint8_t* _entry(
    EncodeState* w, uint8_t* at, PyObject* key_, PyObject* item_, int key_place,
    Py_ssize_t* converted) except NULL
cdef uint8_t* _member(
    EncodeState* w, uint8_t* at, PyObject* member_, Py_ssize_t index) except NULL


@cython.final
cdef class MessagePackWriter:
    # Holds options alone: one writer serves any number of writes, nested ones too.
    cdef readonly bint keyword_keys     # a plain str key of a plain dict is a keyword
    cdef readonly int max_depth
    cdef readonly object default        # returns a value to write for any other; or None

    # Write `[name data]`, where name is a keyword's; data that is None is left out. No key refers
    # to another, so the event can be part of any packet.
    cdef bytes put_event(self, object name, object data, bint has_data)
    # Write `[value cb-id]`. It replaces what `out` holds, and None is returned; a long packet, and
    # any packet if `out` is None, is returned.
    cdef bytes put_packet(self, object value, object cb_id, WriteBuffer out)

    cdef void _open(self, EncodeState* w, int depth, uint8_t* memory) noexcept
    cdef bytes _put_event(self, object name, object data, bint has_data, bint is_careful)
    cdef bytes _put_packet(
        self, object value, object cb_id, WriteBuffer out, bint is_careful)
