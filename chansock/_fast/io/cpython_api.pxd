# CPython's C API as the engine uses it, declared once. Arguments and results that are PyObject*
# count no reference, unless a line says that they are owned. A borrowed pointer is valid only as
# long as its owner lives, so no Python code may run while one is in use.

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport int64_t, uint32_t

cdef extern from *:
    # Before 3.12 strings made by the old Py_UNICODE functions are not ready.
    """
    #define CHSK_TEXT_HASH(o) (((PyASCIIObject *)(o))->hash)
    #define CHSK_RAISED() (-1)
    #if PY_VERSION_HEX < 0x030C0000
    #define CHSK_READY(o) (PyUnicode_READY(o))
    #define CHSK_IS_ASCII(o) (PyUnicode_IS_READY(o) && PyUnicode_IS_ASCII(o))
    #define CHSK_IS_SMALL(o) ((size_t)(Py_SIZE(o) + 1) <= 2)
    #define CHSK_SMALL(o) (Py_SIZE(o) * (int64_t)((PyLongObject *)(o))->ob_digit[0])
    #else
    #define CHSK_READY(o) (0)
    #define CHSK_IS_ASCII(o) (PyUnicode_IS_ASCII(o))
    #define CHSK_IS_SMALL(o) (PyUnstable_Long_IsCompact((PyLongObject *)(o)))
    #define CHSK_SMALL(o) ((int64_t)PyUnstable_Long_CompactValue((PyLongObject *)(o)))
    #endif
    """
    Py_hash_t hash_of_text "CHSK_TEXT_HASH"(PyObject* text) noexcept    # -1: not made yet
    bint is_ascii "CHSK_IS_ASCII"(PyObject* text) noexcept
    bint is_small "CHSK_IS_SMALL"(PyObject* value) noexcept             # an int of one digit
    int64_t small_value "CHSK_SMALL"(PyObject* value) noexcept
    int make_ready "CHSK_READY"(object text) except -1
    int raised "CHSK_RAISED"() except -1        # passes on the exception that an earlier call set
    bint unlikely(bint condition) noexcept

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

    # text
    int PyUnicode_KIND(PyObject* text) noexcept
    uint32_t PyUnicode_READ(int kind, void* data, Py_ssize_t index) noexcept
    bint PyUnicode_CheckExact(PyObject* value) noexcept
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    bint Py_UNICODE_ISDECIMAL(uint32_t point) noexcept
    Py_hash_t PyObject_Hash(object value) except -1
    int PyObject_GenericSetAttr(object owner, object name, object value) except -1

    # references that are counted by hand
    void incref "Py_INCREF"(PyObject* borrowed) noexcept
    void decref "Py_DECREF"(PyObject* owned) noexcept
    void xdecref "Py_XDECREF"(PyObject* owned) noexcept

    # new objects, owned by the caller
    PyObject* new_list "PyList_New"(Py_ssize_t size) except NULL
    PyObject* new_tuple "PyTuple_New"(Py_ssize_t size) except NULL
    PyObject* new_dict "PyDict_New"() except NULL
    PyObject* new_text "PyUnicode_New"(Py_ssize_t size, Py_UCS4 most) except NULL
    PyObject* new_float "PyFloat_FromDouble"(double value) except NULL
    PyObject* new_int "PyLong_FromLongLong"(long long value) except NULL
    PyObject* new_small_int "PyLong_FromLong"(long value) except NULL
    int put "PyDict_SetItem"(PyObject* d, PyObject* key, PyObject* value) noexcept
    # both steal the reference to the member
    void fill_list "PyList_SET_ITEM"(PyObject* owner, Py_ssize_t i, PyObject* owned) noexcept
    void fill_tuple "PyTuple_SET_ITEM"(PyObject* owner, Py_ssize_t i, PyObject* owned) noexcept


cdef inline object steal_ref(PyObject* owned):
    # Return the object, and drop the caller's reference.
    cdef object value = <object>owned
    decref(owned)
    return value

cdef inline PyObject* new_ref(object value) noexcept:
    # Return a reference that the caller owns.
    incref(<PyObject*>value)
    return <PyObject*>value
