# The head of an HTTP request, searched at each call.

from libc.stdint cimport uint8_t

# Where the target starts, and how long it is; 0: there is none.
cdef const char* target_of(bytes head, Py_ssize_t* size) noexcept
cdef int hex_digit(uint8_t char) noexcept    # its value; -1: it is none
cdef bint asks_for(bytes head, bytes path)
