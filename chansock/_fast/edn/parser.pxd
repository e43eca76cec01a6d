# The forms of edn to values, by recursive descent: collections, tags, metadata.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.edn.source cimport Source

# To the next byte that starts or closes a form, over whitespace, comments and discarded
# forms; -1 at the end.
cdef int skip(Source* s) except -2
# The form at s.pos, whose first byte is c, as `skip` gives it.
cdef object read_form(Source* s, int c)
# The first two members of the vector or list at s.pos, as an event and its callback id:
# `[[:id data] cb-id]`. Gives the event's size, and its parts without a list around them: the
# keyword, the data, the callback id. If the first member is anything else, gives 0, and it is
# the first part. All three are the caller's; nil where one is missing. Other members are read
# and dropped.
cdef int read_event(Source* s, int c, PyObject** parts) except -1

# The dict at s.items[base] as a StrDict: what stands in it as text are keywords.
cdef int with_text(Source* s, Py_ssize_t base) except -1
# The same as a FrozenDict, or FrozenStrDict; it begins at `start`.
cdef int freeze(Source* s, Py_ssize_t base, const uint8_t* start, bint has_text) except -1

# An empty FrozenDict, to be filled and then frozen.
cdef PyObject* new_frozen() except NULL
