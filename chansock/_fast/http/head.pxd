# The head of an HTTP request, and a form like its query, searched at each call.

from libc.stdint cimport uint8_t

cdef object method(bytes head)      # "" if there is no request line
cdef bytes target(bytes head)       # between the two blanks of the request line; b"": there is none
# Where the target starts, and how long it is; 0: there is none.
cdef const char* target_of(bytes head, Py_ssize_t* size) noexcept
cdef bint asks_for(bytes head, bytes path)

# The next field of this name from the end of `line` on: where its value starts, without blanks
# around it, and in `stop` where it ends. NULL: there is none.
cdef const char* field(
    const char* line, const char* end, const char* name, Py_ssize_t size, const char** stop
) noexcept
# Fields: values as latin-1, in the order received
cdef object value(bytes head, str name, object default)     # the first
cdef list values(bytes head, str name)
# By name, as sent but for quotes around a value; the first counts.
cdef dict cookies(bytes head)

# Parameters of a query or a form: values as sent. Past `most` of them the rest is not looked at.
cdef bytes param(bytes part, str name, Py_ssize_t most)     # the first; None: there is none
cdef list params(bytes part, str name, Py_ssize_t most)
cdef int add_names(dict into, bytes part, Py_ssize_t most) except -1
# A name or value as text: UTF-8, `+` is a space, a broken escape stays as it is.
cdef object decoded(bytes text)
cpdef bytes unquote_form(bytes text)
cdef int hex_digit(uint8_t char) noexcept   # its value; -1: it is none


cdef struct Pairs:
    # Where a search of parameters is
    const char* at
    const char* end
    Py_ssize_t most                 # parameters still to look at
    const char* equals              # of the present one; its end, where there is none
    const char* stop                # its end
