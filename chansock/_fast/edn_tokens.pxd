# edn text to strings, characters, keywords and symbols; and what every reader of edn bytes
# needs: the state of a read, classes of bytes, `fail`. No number, no collection.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

cdef extern from *:
    """
    /* What a byte is in edn, Clojure's reader being the judge. */
    #if defined(__GNUC__)
    __attribute__((unused))     /* not every module that sees it looks at it */
    #endif
    static const unsigned char CHSK_EDN_KIND[256] = {
        0,0,0,0,0,0,0,0,0,1,1,1,1,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1,1,1,1,
        1,0,2,0,0,0,0,0,2,2,0,0,1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,0,0,0,0,
        3,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,2,2,2,0,
        3,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,2,0,2,3,0,
        4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,
        4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,
        4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,
        4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4,4
    };
    """
    const uint8_t* KIND "CHSK_EDN_KIND"

cdef enum:
    IN_TOKEN = 0    # part of a symbol, keyword or number; `#` and `'` too
    BLANK = 1       # whitespace, and the comma
    ENDS = 2        # ends a token and starts or closes another form
    NEVER = 3       # @ ` ~ have no place in edn
    HIGH = 4        # part of a UTF-8 sequence


# One read under way. It lies on the caller's stack, so that a reader function which reads
# in turn, or another thread, has a state of its own.
cdef struct Source:
    const uint8_t* start        # borrowed from the caller until the read returns
    const uint8_t* pos
    const uint8_t* end
    int depth                   # forms around the present one
    int discards                # above 0: inside `#_`, where no reader function is called
    # Members of the collections that are open, owned: a list is then made in its size at once.
    PyObject** items
    Py_ssize_t count
    Py_ssize_t capacity
    PyObject* room[64]


# Raise EdnDecodeError with byte position, line and column of `at`.
cdef int fail(Source* s, const uint8_t* at, str message) except -1
cdef int not_utf8(Source* s, const uint8_t* at) except -1
# What stands at `at`, for a message: by repr, cut at 40 characters.
cdef str shown(Source* s, const uint8_t* at)

# The code point at p, and its width in bytes; -1 if it is no valid UTF-8.
cdef int code_point(const uint8_t* p, const uint8_t* end, int* width) noexcept
cdef bint is_high_blank(int point) noexcept     # whitespace past ASCII
cdef int digit_of(int point, int base) noexcept     # of any script; -1: no digit of the base

# What breaks the rules of names in `ns/name` (UTF-8, without a keyword's colon); 0: nothing.
cdef int name_fault(const uint8_t* text, Py_ssize_t size) noexcept
cdef str fault_text(int fault)

# Each starts at s.pos and leaves it behind the token.
cdef str read_string(Source* s, bint is_key)        # at the quote; keys come from a cache
cdef object read_keyword(Source* s, bint as_text)   # at the colon; a Keyword, or its text
cdef object read_symbol(Source* s)                  # nil, true and false too
cdef str read_name(Source* s, str what)             # a symbol's text; `what`: for the message
cdef object read_character(Source* s)               # at the backslash
