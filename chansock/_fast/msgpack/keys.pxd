# Names as keys of maps to MessagePack, and the numbers of those that came before in a packet.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t

from chansock._fast.edn.encode_state cimport EncodeState


# The map keys of a packet that were written as keywords or strings: where one comes again, its
# number is written instead. Sente's readers number those that come in full, so each is entered.
cdef struct Keys:
    int count
    int before              # the key before this one
    bint is_off             # in a key or member, which is compared with others by its bytes
    PyObject* names[256]    # owned
    uint8_t is_string[256]
    uint8_t following[256]  # what came behind it the last time: it is tried first
    uint16_t heads[256]     # of chains by hash; number + 1, so 0 is their end
    uint16_t chained[256]


# One write under way.
cdef struct Write:
    EncodeState state
    Keys* keys              # NULL: no key refers to another


# A str or a Keyword as key, whose hash is made, within the margin; NULL: it takes more.
cdef uint8_t* put_key(Write* w, uint8_t* at, PyObject* name, bint is_string) noexcept
# The same for any; a keyword's name was checked.
cdef uint8_t* write_key(Write* w, uint8_t* at, object name, bint is_string) except NULL

# From here on keys are written in full; gives what let_in is to be told.
cdef bint keep_out(Write* w) noexcept
cdef void let_in(Write* w, bint was_off) noexcept

# Let go of the names.
cdef void forget_keys(Keys* keys) noexcept
