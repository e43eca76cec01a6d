# What every reader of edn bytes needs: the state of a read, classes of bytes, code points,
# refusals. It makes no value.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

cdef extern from "edn/scan.h":
    const uint8_t* KIND "chansock_kinds"

cdef enum:
    IN_TOKEN = 0    # part of a symbol, keyword or number; `#` and `'` too
    BLANK = 1       # whitespace, and the comma
    ENDS = 2        # ends a token and starts or closes another form
    NEVER = 3       # @ ` ~ have no place in edn
    HIGH = 4        # part of a UTF-8 sequence

cdef extern from *:
    bint unlikely(bint condition) noexcept

cdef extern from "Python.h":
    void incref "Py_INCREF"(PyObject* borrowed) noexcept
    void decref "Py_DECREF"(PyObject* owned) noexcept


# A name in the cache of tokens.
cdef struct Name:
    uint64_t low            # its bytes in two words; if it is longer, a mark of them in `low`
    uint64_t high
    Py_ssize_t size         # 0: none here
    const char* bytes       # inside `text`
    PyObject* text          # a str; owned
    PyObject* keyword       # its Keyword, once the name was checked, else NULL; owned
    Name* next              # where the key is that last followed it as a key


# One read under way. It lies on the caller's stack, so that a reader function which reads
# in turn, or another thread, has a state of its own.
cdef struct Source:
    const uint8_t* start        # borrowed from the caller until the read returns
    const uint8_t* pos
    const uint8_t* end
    # The options of the Reader.
    PyObject* readers           # borrowed from it: a dict
    int max_depth
    bint keyword_keys
    bint tagged
    # Where the read stands.
    int depth                   # forms around the present one
    int discards                # above 0: inside `#_`, where no reader function is called
    Py_ssize_t collisions       # keys and members whose hash another had
    Py_ssize_t ratios           # in keys and members
    double work                 # that telling such keys apart may have taken: pairs of bytes
    Name* key                   # the last keyword key; NULL: none yet
    # Members of the collections that are open, owned: a list is then made in its size at once.
    PyObject** items
    Py_ssize_t count
    Py_ssize_t capacity
    PyObject* room[64]


cdef inline object steal_ref(PyObject* reference):
    # The object whose reference is handed over.
    cdef object value = <object>reference
    decref(reference)
    return value

cdef inline PyObject* new_ref(object value) noexcept:
    # A reference of the caller's own.
    incref(<PyObject*>value)
    return <PyObject*>value

# A read of these bytes with the options of `like`, or the default ones if it is NULL.
cdef void open_source(
    Source* s, const uint8_t* data, Py_ssize_t size, const Source* like) noexcept
# Let go of what an error has left; nothing to do after a read that succeeded.
cdef void drop_source(Source* s) noexcept

# The stack of members. It takes the reference over, even if there is no memory.
cdef int grow(Source* s, PyObject* reference) except -1
cdef inline int push(Source* s, PyObject* reference) except -1:
    if unlikely(s.count == s.capacity):
        grow(s, reference)
    s.items[s.count] = reference
    s.count += 1
    return 0

# Raise EdnDecodeError with byte position, line and column of `at`; by `cut` EdnTruncated:
# what is there is well so far, and there is text that could follow.
cdef int fail(Source* s, const uint8_t* at, str message) except -1
cdef int cut(Source* s, const uint8_t* at, str message) except -1
cdef int not_utf8(Source* s, const uint8_t* at) except -1
# What stands at `at`, for a message: by repr, cut at 40 characters.
cdef str shown(Source* s, const uint8_t* at)

# Whether text is the beginning of one of these names.
cdef bint begins_one(object text, object names) except -1

# The code point at p, and its width in bytes; -1 if it is no valid UTF-8.
cdef int code_point(const uint8_t* p, const uint8_t* end, int* width) noexcept
# Whether the end lies inside a code point that starts at p.
cdef bint is_partial(const uint8_t* p, const uint8_t* end) noexcept
# Whether that code point can turn out to be whitespace.
cdef bint may_be_blank(const uint8_t* p, const uint8_t* end) noexcept
cdef bint is_high_blank(int point) noexcept     # whitespace past ASCII
cdef bint is_wide_digit(int point) noexcept     # a decimal digit past ASCII, as Java sees it
cdef int digit_of(int point, int base) noexcept     # of any script; -1: no digit of the base
cdef str text_of(Source* s, const uint8_t* p, const uint8_t* end)      # UTF-8 without escapes

# Whether a token may end at p.
cdef inline bint is_delimited(Source* s, const uint8_t* p) noexcept:
    return p == s.end or KIND[p[0]] == BLANK or KIND[p[0]] == ENDS
# Skip whitespace and comments; the byte that follows, or -1.
cdef int skip_blank(Source* s) except -2
