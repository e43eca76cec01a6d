# Memory to write to (WriteBuffer), and windows on borrowed memory (Span).
# No frame, no value, no socket: pointers and lengths only.

cimport cython
from libc.stdint cimport uint8_t
from libc.string cimport memcpy


# Return the same bytes, in memory of exactly their size: for bytes that are kept.
cdef bytes exact(bytes data)


@cython.final
cdef class WriteBuffer:
    # Grows by doubling; owns nothing before the first byte. A pointer into it dies at
    # the next reserve or put: keep indices.
    cdef uint8_t* data                  # owned; NULL until something is put
    cdef readonly Py_ssize_t size       # bytes written
    cdef readonly Py_ssize_t capacity

    # Make room for `count` more bytes behind `size`.
    cdef inline int reserve(self, Py_ssize_t count) except -1:
        if self.capacity - self.size < count:
            return self._grow(count)
        return 0

    cdef inline int put(self, const void* source, Py_ssize_t count) except -1:
        if self.capacity - self.size < count:
            self._grow(count)
        memcpy(self.data + self.size, source, <size_t>count)
        self.size += count
        return 0

    cdef inline int put_byte(self, uint8_t byte) except -1:
        if self.capacity == self.size:
            self._grow(1)
        self.data[self.size] = byte
        self.size += 1
        return 0

    cdef inline int put_bytes(self, bytes source) except -1:
        return self.put(<const char*>source, len(source))

    # Forget all behind `size`; the store is kept.
    cdef inline void cut(self, Py_ssize_t size) noexcept:
        self.size = size

    cdef int _grow(self, Py_ssize_t count) except -1
    # Put a line of Redis' protocol: a kind, and a size in digits.
    cdef int put_size(self, uint8_t kind, Py_ssize_t size) except -1
    cpdef bytes take(self)
    cpdef clear(self)


@cython.final
cdef class Span:
    # A window on memory that another object owns, offered by the buffer protocol. The caller of
    # `aim` keeps the memory alive until release or the next aim.
    cdef uint8_t* data                  # borrowed; NULL: released
    cdef Py_ssize_t size
    cdef bint is_readonly
    cdef readonly Py_ssize_t exports    # views that are open on it now
    cdef object _owner                  # keeps Python memory alive; None for C memory

    cdef void aim(self, uint8_t* data, Py_ssize_t size, bint is_readonly) noexcept
    cpdef release(self)
