# Sente's MessagePack to values, straight from borrowed memory. Knows the envelope, nothing else
# of packets.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.edn.source cimport Source

# The envelope at s.pos, `[[:id data] cb-id]`. Gives the event's size, and its parts without a
# list around them: the keyword, the data, the callback id. If the first element is anything
# else, gives 0, and it is the first part. All three are the caller's; None where one is missing.
# Other elements are read and dropped; what is behind the envelope is not looked at.
# Raises EdnDecodeError; the state is then in `s`, for drop_source.
cdef int read_envelope(Source* s, PyObject** parts) except -1
