# edn numbers to their values. No string, name or collection here.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.edn.source cimport Source


# At a digit, or a sign before one; leaves s.pos behind it. A new reference.
cdef PyObject* read_number(Source* s) except NULL
# At the name behind the `##` that is at `start`.
cdef object read_symbolic(Source* s, const uint8_t* start)
# The value of a ratio whose denominator is positive: a Fraction, or an int.
cdef object ratio_of(object above, object below)
