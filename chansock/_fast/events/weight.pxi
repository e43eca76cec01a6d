# A part of events/dispatch: what a decoded value holds in memory. Whose value it is, and for which
# limit it counts, is not known here.
#
# The size of a packet shows little of that: three bytes of edn (`#{}`) make a set of 216 bytes, and
# a kilobyte of gzip a megabyte of text. So a value is weighed: its containers, text, and numbers
# count with the sizes that `sys.getsizeof` returns. The dispatch weighs the value of an event whose
# handler waits, never that of an event that is handled at once.

from cpython.object cimport PyObject, PyTypeObject
from chansock._fast.io.cpython_api cimport (
    PyDict_Next, PyFloat_Type, PyLong_Type, PyUnicode_CheckExact, Py_None, Py_TYPE, is_small,
    small_value
)

from decimal import Decimal
from fractions import Fraction
from uuid import UUID

cdef extern from *:
    """
    static Py_ssize_t chansock_size_of_text(PyObject *o) {
        Py_ssize_t size = Py_TYPE(o)->tp_basicsize + (PyObject_IS_GC(o) ? 16 : 0);
        if (PyUnicode_CheckExact(o))
            size = PyUnicode_IS_COMPACT_ASCII(o)
                ? (Py_ssize_t)sizeof(PyASCIIObject) : (Py_ssize_t)sizeof(PyCompactUnicodeObject);
        return size + (PyUnicode_GET_LENGTH(o) + 1) * (Py_ssize_t)PyUnicode_KIND(o);
    }
    static Py_ssize_t chansock_size_of_list(PyObject *o) {
        return Py_TYPE(o)->tp_basicsize
            + ((PyListObject *)o)->allocated * (Py_ssize_t)sizeof(PyObject *);
    }
    static Py_ssize_t chansock_size_of_tuple(PyObject *o) {
        return Py_TYPE(o)->tp_basicsize + PyTuple_GET_SIZE(o) * (Py_ssize_t)sizeof(PyObject *);
    }
    static void chansock_traverse(PyObject *o, visitproc visit, void *arg) {
        if (Py_TYPE(o)->tp_traverse != NULL)
            Py_TYPE(o)->tp_traverse(o, visit, arg);
    }
    """
    Py_ssize_t size_of_text "chansock_size_of_text"(PyObject* text) noexcept
    Py_ssize_t size_of_list "chansock_size_of_list"(PyObject* members) noexcept
    Py_ssize_t size_of_tuple "chansock_size_of_tuple"(PyObject* members) noexcept
    ctypedef int (*visitproc)(PyObject*, void*) noexcept
    void traverse "chansock_traverse"(PyObject* container, visitproc visit, void* arg) noexcept

cdef extern from "Python.h":
    bint PyUnicode_Check(PyObject* value) noexcept
    bint PyList_Check(PyObject* value) noexcept
    bint PyTuple_Check(PyObject* value) noexcept
    bint PyDict_Check(PyObject* value) noexcept
    bint PySet_Check(PyObject* value) noexcept
    bint PyFrozenSet_Check(PyObject* value) noexcept
    bint PyBool_Check(PyObject* value) noexcept
    bint PyType_Check(PyObject* value) noexcept
    bint PyObject_IS_GC(PyObject* value) noexcept
    bint PyType_HasFeature(PyTypeObject* kind, unsigned long feature) noexcept
    unsigned long Py_TPFLAGS_HEAPTYPE
    unsigned long Py_TPFLAGS_MANAGED_DICT
    Py_ssize_t references "Py_REFCNT"(PyObject* value) noexcept
    PyObject* _PyType_Lookup(PyTypeObject* kind, object name) noexcept

cdef enum:
    AROUND_CONTAINER = 16       # the collector's head before it
    ATTRIBUTES = 48             # of an object without slots: their head, and some four of them
    SMALL_INT = 28
    FLOAT = 24

cdef object size_of_dict = dict.__sizeof__, size_of_set = set.__sizeof__
cdef object size_of_frozenset = frozenset.__sizeof__, size_of_decimal = Decimal.__sizeof__

# What a class of records has: dataclasses, msgspec, pydantic.
cdef tuple RECORD_MARKS = ("__dataclass_fields__", "__struct_fields__", "__pydantic_fields__")


cdef struct Traversal:
    Py_ssize_t total
    Py_ssize_t most
    PyObject* found             # borrowed: a list of containers whose content is still to count


# Nothing below runs Python code: otherwise a handler in a thread could run in the middle of a list,
# and change it.

# Return the bytes of value and of all that it contains, or some number above `most` as soon as the
# count passes `most`: the walk ends there, so `most` limits its work too. It does not recurse.
cdef Py_ssize_t weight(object value, Py_ssize_t most) except -1:
    cdef list found = []
    cdef Traversal walk
    cdef object container
    walk.total = 0
    walk.most = most
    walk.found = <PyObject*>found
    _weigh_one(<PyObject*>value, &walk)
    while found and walk.total <= most:
        container = found.pop()
        if PyDict_Check(<PyObject*>container):
            _weigh_items(<PyObject*>container, &walk)
        else:
            traverse(<PyObject*>container, _weigh_one, &walk)
    return walk.total


def weigh(value, Py_ssize_t most=(1 << 62)):
    """Return the bytes that value holds, or some number above `most` if it holds more."""
    return weight(value, most)


cdef int _weigh_one(PyObject* value, void* arg) noexcept:
    # Count one object, and note it if it contains others. Return 1 to end the walk.
    cdef Traversal* walk = <Traversal*>arg
    if PyUnicode_Check(value):
        walk.total += size_of_text(value)
    elif Py_TYPE(value) is &PyLong_Type and is_small(value):
        if not -5 <= small_value(value) <= 256:     # those are Python's own, made once
            walk.total += SMALL_INT
    elif Py_TYPE(value) is &PyFloat_Type:
        walk.total += FLOAT
    elif value is not Py_None and not PyBool_Check(value) and not PyType_Check(value):
        try:
            _weigh_other(value, walk)
        except Exception:               # no memory is left for the walk
            walk.total = walk.most + 1
    return walk.total > walk.most


cdef int _weigh_other(PyObject* value, Traversal* walk) except -1:
    cdef bint is_container = True
    if PyList_Check(value):
        walk.total += size_of_list(value)
    elif PyTuple_Check(value):
        walk.total += size_of_tuple(value)
    elif PyDict_Check(value):
        walk.total += size_of_dict(<object>value)
    elif PySet_Check(value):
        walk.total += size_of_set(<object>value)
    elif PyFrozenSet_Check(value):
        walk.total += size_of_frozenset(<object>value)
    elif PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_HEAPTYPE):
        is_container = _is_record(value)
        walk.total += (
            size_of_decimal(<object>value) if <object>Py_TYPE(value) is Decimal
            else Py_TYPE(value).tp_basicsize
        )
        if PyType_HasFeature(Py_TYPE(value), Py_TPFLAGS_MANAGED_DICT):
            walk.total += ATTRIBUTES
    else:
        is_container = False
        walk.total += (<object>value).__sizeof__()      # in C, since its type is
    if PyObject_IS_GC(value):
        walk.total += AROUND_CONTAINER
    if is_container:
        (<list>walk.found).append(<object>value)
    return 0


cdef int _weigh_items(PyObject* items, Traversal* walk) except -1:
    cdef Py_ssize_t place = 0
    cdef PyObject* key
    cdef PyObject* item
    while PyDict_Next(items, &place, &key, &item):
        # Readers make a key once for all dicts that have it, so each dict counts its part.
        if PyUnicode_CheckExact(key):
            walk.total += size_of_text(key) // references(key)
        else:
            _weigh_one(key, walk)
        if _weigh_one(item, walk):
            break
    return 0


cdef bint _is_record(PyObject* value) except -1:
    cdef object kind = <object>Py_TYPE(value)
    if kind is UUID or kind is Fraction:
        return True
    for mark in RECORD_MARKS:
        if _PyType_Lookup(Py_TYPE(value), mark) != NULL:
            return True
    return False
