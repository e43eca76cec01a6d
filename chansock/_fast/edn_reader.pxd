# edn text to Python values, straight from borrowed memory. Knows nothing of packets.

cimport cython
from libc.stdint cimport uint8_t

from chansock._fast.edn_tokens cimport Source


@cython.final
cdef class Reader:
    # Holds options alone: one reader serves any number of reads, nested ones too.
    cdef readonly bint keyword_keys     # `{:a 1}` has the key "a" (else Keyword("a"))
    cdef readonly int max_depth
    cdef readonly dict readers          # tag -> function of one value
    cdef readonly bint tagged           # a tag without a reader gives Tagged; else it is refused

    # The first form; `end` is the offset behind it, or -1 (and None is returned) if there
    # was nothing but whitespace, comments and discarded forms.
    cdef object read(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t* end)
    cdef object read_from(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos, Py_ssize_t* end)
    cdef Py_ssize_t _behind(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos) except -2

    # -- between the forms: the next byte that starts or closes one, -1 at the end --
    cdef int _skip(self, Source* s) except -2
    cdef int _discard(self, Source* s) except -1

    # -- the forms; `hashed`: in a map key or set member, so it must be hashable --
    cdef object _form(self, Source* s, int c, bint hashed)
    cdef int _too_deep(self, Source* s) except -1
    cdef object _next(self, Source* s, const uint8_t* owner, bint hashed)
    cdef int _members(self, Source* s, int close, bint hashed) except -1
    cdef object _vector(self, Source* s, bint hashed)
    cdef object _list(self, Source* s, bint hashed)
    cdef object _set(self, Source* s, bint hashed)
    cdef object _map(self, Source* s, bint hashed, str namespace)
    cdef object _dispatch(self, Source* s, bint hashed)
    cdef object _namespaced_map(self, Source* s, bint hashed)
    cdef object _symbolic(self, Source* s)
    cdef object _tagged(self, Source* s, bint hashed)
    cdef object _with_metadata(self, Source* s, bint hashed)
