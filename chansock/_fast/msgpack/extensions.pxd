# Sente's extensions of MessagePack that hold no values in their turn, from bytes that are
# all there.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.edn.source cimport Source

# UTF-8 as text; both raise EdnDecodeError.
cdef PyObject* decoded(Source* s, const uint8_t* p, Py_ssize_t size) except NULL
# The `size` bytes at p of an extension that begins at `at`. `hashed`: it must be hashable.
cdef object read_extension(
    Source* s, const uint8_t* at, int kind, const uint8_t* p, Py_ssize_t size, bint hashed)
