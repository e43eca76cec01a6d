# A truth value of one byte, for the objects that every connection has: a bint takes four.

cdef extern from "<stdbool.h>":
    ctypedef bint flag "bool"
