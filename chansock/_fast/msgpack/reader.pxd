# Sente's MessagePack to values, straight from borrowed memory.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.edn.reader cimport Source

# Read the envelope at s.pos, `[[:id data] cb-id]`. Return the event's size, and set its parts
# without a list around them: the keyword, the data, the callback id. If the first element is
# anything else, return 0; it is then the first part. The caller owns all three; a missing one is
# None. Other elements are read and dropped; bytes behind the envelope are ignored.
# Raise EdnDecodeError; the state is then in `s`, for drop_source.
cdef int read_envelope(Source* s, PyObject** parts) except -1
