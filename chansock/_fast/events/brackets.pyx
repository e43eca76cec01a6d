# cython: language_level=3
"""How deep the arrays and objects of a JSON text stand: one pass over its bytes.

Nothing else of JSON is known here. The text has been parsed, so it is well formed.
"""

from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from libc.stdint cimport uint8_t


def deepest(view not None):
    """Return how many arrays and objects at most stand around a value, with its own brackets."""
    cdef Py_buffer text
    PyObject_GetBuffer(view, &text, PyBUF_SIMPLE)
    cdef Py_ssize_t found = _deepest(<const uint8_t*>text.buf, text.len)
    PyBuffer_Release(&text)
    return found


cdef Py_ssize_t _deepest(const uint8_t* text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t at = 0, depth = 0, most = 0
    cdef bint is_string = False
    while at < size:
        if is_string:
            if text[at] == c'\\':
                at += 1
            elif text[at] == c'"':
                is_string = False
        elif text[at] == c'"':
            is_string = True
        elif text[at] == c'[' or text[at] == c'{':
            depth += 1
            if depth > most:
                most = depth
        elif text[at] == c']' or text[at] == c'}':
            depth -= 1
        at += 1
    return most
