# The text of #inst and #uuid to their values.

from libc.stdint cimport uint8_t

from chansock._fast.edn.source cimport Source

# None if the text is none.
cdef object instant(str text)
cdef object uuid_of(str text)

# Whether the string that starts at `quote`, and has no end yet, may become such a text.
cdef bint begins(Source* s, const uint8_t* quote, bint is_instant) except -1
