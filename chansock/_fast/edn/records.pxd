# As what a value is written whose type is none of edn's own: a subclass as its base, an Enum
# as its value, a record (dataclass, msgspec Struct, pydantic model) as the map of its fields.

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
    RECORD


# What is known of a class; made at the first of its instances.
@cython.final
cdef class Shape:
    cdef readonly int kind
    # a record alone
    cdef tuple names        # of the attributes that are fields
    cdef tuple keys         # what each is called on the wire
    cdef dict leading       # entries that are the same for all instances
    cdef object unset       # msgspec's UNSET: such a field is left out
    cdef bint is_model      # pydantic's: the fields lie in __dict__, and there may be more
    cdef bint is_root       # its one field stands for it
    cdef tuple computed     # properties that belong to it

    # The dict of keyword names to values that is written for a record; of a root model its root.
    cdef object fields(self, object value)
    cdef dict _attributes(self, object value)
    cdef object _model(self, object value)

cdef Shape shape_of(object kind)
