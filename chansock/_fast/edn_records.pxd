# As what a value is written whose type is none of edn's own: a subclass as its base, an Enum
# as its value.

cimport cython

cdef enum:
    UNKNOWN = 0
    ENUM
    TEXT
    WHOLE
    REAL
    MAP
    STRING_MAP          # a StrDict
    SEQUENCE
    SET
    MOMENT
    UUID_VALUE
    DECIMAL
    RATIO


# What is known of a class; made at the first of its instances.
@cython.final
cdef class Shape:
    cdef readonly int kind

cdef Shape shape_of(object kind)
