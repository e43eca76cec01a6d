# The forms of edn to values, by recursive descent: collections, tags, metadata.

from cpython.object cimport PyObject

from chansock._fast.edn_source cimport Source

# To the next byte that starts or closes a form, over whitespace, comments and discarded
# forms; -1 at the end.
cdef int skip(Source* s) except -2
# The form at s.pos, whose first byte is c, as `skip` gives it.
cdef object read_form(Source* s, int c)
# The first two members of the vector or list at s.pos, owned by the caller; nil where one is
# missing. The others are read and dropped.
cdef int read_two(Source* s, int c, PyObject** first, PyObject** second) except -1
