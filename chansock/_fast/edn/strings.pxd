# Strings and characters of edn: for the engine, by cimport; nothing for Python.

from cpython.object cimport PyObject

from chansock._fast.edn.source cimport Source

# Each starts at s.pos, leaves it behind the token, and returns a new reference.
cdef PyObject* read_string(Source* s, bint is_key) except NULL      # keys come from a cache
cdef PyObject* read_character(Source* s) except NULL                # at the backslash
