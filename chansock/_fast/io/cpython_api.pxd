# CPython's objects as borrowed pointers: looked at without counting a reference. Who looks
# answers for their life: nothing may run Python code meanwhile.

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t

cdef extern from *:
    # Before 3.12 strings made by the old Py_UNICODE functions are not ready.
    """
    #define CHSK_TEXT_HASH(o) (((PyASCIIObject *)(o))->hash)
    #if PY_VERSION_HEX < 0x030C0000
    #define CHSK_IS_ASCII(o) (PyUnicode_IS_READY(o) && PyUnicode_IS_ASCII(o))
    #define CHSK_IS_SMALL(o) ((size_t)(Py_SIZE(o) + 1) <= 2)
    #define CHSK_SMALL(o) (Py_SIZE(o) * (int64_t)((PyLongObject *)(o))->ob_digit[0])
    #else
    #define CHSK_IS_ASCII(o) (PyUnicode_IS_ASCII(o))
    #define CHSK_IS_SMALL(o) (PyUnstable_Long_IsCompact((PyLongObject *)(o)))
    #define CHSK_SMALL(o) ((int64_t)PyUnstable_Long_CompactValue((PyLongObject *)(o)))
    #endif
    """
    Py_hash_t hash_of_text "CHSK_TEXT_HASH"(PyObject* text) noexcept    # -1: not made yet
    bint is_ascii "CHSK_IS_ASCII"(PyObject* text) noexcept
    bint is_small "CHSK_IS_SMALL"(PyObject* value) noexcept             # an int of one digit
    int64_t small_value "CHSK_SMALL"(PyObject* value) noexcept

cdef extern from "Python.h":
    PyTypeObject PyUnicode_Type, PyLong_Type, PyFloat_Type, PyDict_Type, PyList_Type, PyTuple_Type
    PyObject* Py_None
    PyObject* Py_True
    PyObject* Py_False
    PyTypeObject* Py_TYPE(PyObject* value) noexcept
    bint PyUnicode_IS_COMPACT_ASCII(PyObject* text) noexcept    # its text lies behind its head
    void* PyUnicode_DATA(PyObject* text) noexcept
    Py_ssize_t PyUnicode_GET_LENGTH(PyObject* text) noexcept
    long long PyLong_AsLongLongAndOverflow(PyObject* value, int* overflow) noexcept
    double PyFloat_AS_DOUBLE(PyObject* value) noexcept
    Py_ssize_t PyDict_GET_SIZE(PyObject* map) noexcept
    bint PyDict_Next(PyObject* map, Py_ssize_t* place, PyObject** key, PyObject** item) noexcept
    # of a list or a tuple
    Py_ssize_t PySequence_Fast_GET_SIZE(PyObject* members) noexcept
    PyObject* PySequence_Fast_GET_ITEM(PyObject* members, Py_ssize_t index) noexcept
