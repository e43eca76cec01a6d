# edn numbers, #inst and #uuid to their values. No string, name or collection here.

from chansock._fast.edn_tokens cimport Source


cdef object read_number(Source* s)          # at a digit, or a sign before one

# The text of the literal to its value; None if it is none.
cdef object instant(str text)
cdef object uuid_of(str text)
