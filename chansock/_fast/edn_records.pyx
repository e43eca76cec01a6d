# As what a value is written whose type is none of edn's own: a subclass as its base, an Enum
# as its value.

from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from uuid import UUID

cimport cython

from chansock.values import StrDict

# The order decides for a class with two bases: a StrEnum is an Enum.
cdef tuple BASES = (
    (Enum, ENUM), (str, TEXT), (int, WHOLE), (float, REAL), (StrDict, STRING_MAP), (dict, MAP),
    (list, SEQUENCE), (tuple, SEQUENCE), (set, SET), (frozenset, SET), (datetime, MOMENT),
    (UUID, UUID_VALUE), (Decimal, DECIMAL), (Fraction, RATIO),
)

cdef enum:
    MOST_SHAPES = 512       # classes are kept alive, and some programs make them all day

cdef dict SHAPES = {}


@cython.final
cdef class Shape:
    pass


cdef Shape shape_of(object kind):
    cdef Shape shape = SHAPES.get(kind)
    if shape is None:
        shape = _look(kind)
        if len(SHAPES) >= MOST_SHAPES:
            SHAPES.clear()
        SHAPES[kind] = shape
    return shape


cdef Shape _look(object kind):
    cdef Shape shape = Shape.__new__(Shape)
    for base, found in BASES:
        if issubclass(kind, base):
            shape.kind = found
            return shape
    return shape
