# cython: language_level=3
"""A generator that mostly ends at once, started without the exception that tells its end.

Written as one, what may have to wait needs no second version, and costs no task where nothing
waits. Nothing is known of what the steps are.
"""

from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF

cdef extern from "Python.h":
    const int PYGEN_RETURN
    int PyIter_Send(object iterator, object value, PyObject** result) except -1      # PYGEN_ERROR


def start(steps):
    """Run to the first yield or to the end; give what was yielded or returned, and whether
    that was the end. Raises what the steps raise."""
    cdef PyObject* found = NULL
    cdef int how = PyIter_Send(steps, None, &found)
    try:
        return <object>found, how == PYGEN_RETURN
    finally:
        Py_XDECREF(found)
