# edn text to Python values, straight from borrowed memory. Knows nothing of packets.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.edn.source cimport Source


cdef enum Found:
    READ_FAILED = -1
    PAIR = 0
    NO_FORM = 1     # nothing but whitespace, comments and discarded forms
    NO_PAIR = 2     # a form that has no elements in order


@cython.final
cdef class Reader:
    # Holds options alone: one reader serves any number of reads, nested ones too.
    cdef readonly bint keyword_keys     # `{:a 1}` has the key "a" (else Keyword("a"))
    cdef readonly int max_depth
    cdef readonly dict readers          # tag -> function of one value
    cdef readonly bint tagged           # a tag without a reader gives Tagged; else it is refused

    # The first form; `end` is the offset behind it, or -1 (and None is returned) if there
    # was nothing but whitespace, comments and discarded forms.
    cdef object read_from(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos, Py_ssize_t* end)
    # What read_event of the parser gives of the vector or list that data begins with; nil for
    # all if the form is nil.
    cdef Found read_pair(
        self, const uint8_t* data, Py_ssize_t size, int* length, PyObject** parts
    ) except READ_FAILED
    cdef void _open(self, Source* s, const uint8_t* data, Py_ssize_t size) noexcept
