# Names to edn: keywords, symbols and tags; and the keyword names that are known.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t

from chansock._fast.io.cpython_api cimport hash_of_text
from chansock._fast.edn.scalars cimport OutputBuffer

cdef enum:
    SETS = 1024
    WAYS = 4
    LONGEST_TEXT = 48       # bytes


# A keyword's name that was checked, with its text, so that a key of a map is put in one go.
cdef struct Known:
    PyObject* name          # owned: a str or a Keyword
    uint32_t size           # of text; 0: the name is too long for it
    uint8_t[52] text        # `, :name `

# By hash, four to a set. Bounded, since peers choose the names.
cdef Known[4096] KNOWN

cdef Known* known_text(Known* set, PyObject* name) noexcept

# The entry of a str or a Keyword, if there is one: by identity, else by its text.
cdef inline Known* known(PyObject* name) noexcept:
    cdef Known* entry = &KNOWN[(<size_t>hash_of_text(name) & (SETS - 1)) * WAYS]
    cdef int way
    for way in range(WAYS):
        if entry[way].name == name:
            return entry + way
    return known_text(entry, name)


# Why edn has no keyword of this name; None: it has, and the name is known from now on.
cdef str keyword_trouble(object name)
# Whether the keys of a map that is no StrDict are strings: all are plain str, and one is no
# keyword's name.
cdef bint has_text_keys(dict value) except -1
cdef int refuse_keyword(object name, bint is_key, str trouble) except -1

# As those of scalars.
cdef uint8_t* write_keyword(OutputBuffer* output, uint8_t* at, object name, bint is_key) except NULL
cdef uint8_t* write_symbol(OutputBuffer* output, uint8_t* at, object name) except NULL
cdef uint8_t* write_tag(OutputBuffer* output, uint8_t* at, object tag) except NULL
