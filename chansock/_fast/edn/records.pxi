# A part of edn/writer: how to write a value whose type is not one of edn's own. A subclass is
# written as its base, an Enum as its value, a record (dataclass, msgspec Struct, pydantic model) as
# the map of its fields. msgspec and pydantic are never imported: their classes are recognized by
# their attributes. Nothing here writes.

import dataclasses
import sys
from datetime import datetime
from decimal import Decimal
from enum import Enum
from fractions import Fraction
from uuid import UUID

cimport cython

from chansock.errors import EncodeError
from chansock.values import StrDict

# The order decides for a class with two bases: a StrEnum is an Enum.
cdef tuple BASES = (
    (Enum, KIND_ENUM), (str, KIND_TEXT), (int, KIND_WHOLE), (float, KIND_REAL),
    (StrDict, KIND_STRING_MAP), (dict, KIND_MAP), (list, KIND_SEQUENCE), (tuple, KIND_SEQUENCE),
    (set, KIND_SET), (frozenset, KIND_SET), (datetime, KIND_MOMENT), (UUID, KIND_UUID),
    (Decimal, KIND_DECIMAL), (Fraction, KIND_RATIO),
)

cdef enum:
    MOST_SHAPES = 512       # classes are kept alive, and some programs make them all day

cdef dict SHAPES = {}


@cython.final
cdef class Shape:
    cdef object fields(self, object value):
        return self._model(value) if self.is_model else self._attributes(value)

    cdef dict _attributes(self, object value):
        cdef dict found = self.leading.copy()
        for name, key in zip(self.names, self.keys):
            try:
                item = getattr(value, name)
            except AttributeError:
                raise EncodeError(
                    f"expected a value in each field, got a {type(value).__name__} "
                    f"without {name!r}") from None
            if item is not self.unset or item is None:
                found[key] = item
        return found

    cdef object _model(self, object value):
        cdef dict held = value.__dict__, found
        if self.is_root:
            return held["root"]
        found = {name: held[name] for name in self.names if name in held}   # model_construct
        found.update(value.__pydantic_extra__ or {})
        for name in self.computed:
            found[name] = getattr(value, name)
        return found


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
    shape.names = shape.keys = shape.computed = ()
    shape.leading = {}
    for base, found in BASES:
        if issubclass(kind, base):
            shape.kind = found
            return shape
    mark = getattr(kind, "__struct_fields__", None)
    if isinstance(mark, tuple):
        shape.kind = KIND_RECORD
        shape.names = mark
        shape.keys = kind.__struct_encode_fields__
        shape.unset = getattr(sys.modules.get("msgspec"), "UNSET", None)
        config = kind.__struct_config__
        if config.tag is not None:
            shape.leading[config.tag_field] = config.tag
        return shape
    mark = getattr(kind, "__dataclass_fields__", None)
    if isinstance(mark, dict):
        shape.kind = KIND_RECORD
        shape.names = shape.keys = tuple(field.name for field in dataclasses.fields(kind))
        return shape
    mark = getattr(kind, "__pydantic_decorators__", None)
    if mark is not None:
        shape.kind = KIND_RECORD
        shape.is_model = True
        shape.is_root = bool(kind.__pydantic_root_model__)
        shape.names = tuple(
            name for name, field in kind.model_fields.items() if not field.exclude)
        shape.computed = tuple(mark.computed_fields)
    return shape


def plain(value):
    """Return what to write for a value whose type is not one of edn's own.

    A subclass becomes its base, an Enum its value, and a record the dict of its fields. A
    datetime, UUID, Decimal, or Fraction of any class is returned unchanged. Return NotImplemented
    for any other value. For packers in Python.
    """
    cdef Shape shape = shape_of(type(value))
    cdef int kind = shape.kind
    if kind == KIND_UNKNOWN:
        return NotImplemented
    if kind == KIND_ENUM:
        return value.value
    if kind == KIND_TEXT:
        return str.__str__(value)
    if kind == KIND_WHOLE:
        return int.__index__(value)
    if kind == KIND_REAL:
        return float.__pos__(value)
    if kind == KIND_MAP:
        return dict(value)
    if kind == KIND_STRING_MAP:
        return StrDict(value)
    if kind == KIND_SEQUENCE:
        return list(value)
    if kind == KIND_SET:
        return frozenset(value)
    if kind == KIND_RECORD:
        return shape.fields(value)
    return value
