# Names of edn: keywords and symbols, their rules, and the cache of those seen before.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.edn.source cimport Name, Source

# Behind the token that begins at p; before a code point that the end cuts.
cdef const uint8_t* token_end(Source* s, const uint8_t* p) except NULL

# What breaks the rules of names in `ns/name` (UTF-8, without a keyword's colon); 0: nothing.
cdef int name_fault(const uint8_t* text, Py_ssize_t size) noexcept
cdef str fault_text(int fault)
# ASCII without a colon and with at most one slash, that is well placed: most names.
cdef bint is_plain(const uint8_t* text, Py_ssize_t size) noexcept

# Each starts at s.pos, leaves it behind the token, and returns a new reference.
cdef PyObject* read_keyword(Source* s, bint as_text) except NULL    # a Keyword, or its text
cdef PyObject* read_symbol(Source* s) except NULL                   # nil, true and false too
cdef str read_name(Source* s, str what)     # a symbol's text; `what`: for the message
# At the colon of a map's key: the same, and quicker where keys follow each other as before.
cdef PyObject* read_key(Source* s, bint as_text) except NULL

# A name from the cache, with its Keyword, of these bytes alone; NULL: it is not plain, or long.
cdef Name* plain_name(Source* s, const uint8_t* first, Py_ssize_t size) except? NULL

# An ASCII string from the cache of names: the string keys of maps.
cdef PyObject* cached_text(
    Source* s, const uint8_t* first, Py_ssize_t size) except NULL

# The key `:name`, a Keyword or Symbol, of a `#:namespace{}`; `:_/name` stays without.
cdef object qualified(object name, str namespace, bint as_text)
