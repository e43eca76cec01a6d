# edn text to Python values: what the other modules of the engine use of it.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint64_t

from chansock._fast.io.cpython_api cimport fill_list, fill_tuple, new_list, new_tuple, unlikely


# -- source: the state of a read --

cdef extern from "edn/scan.h":
    const uint8_t* KIND "chansock_kinds"

cdef enum:
    IN_TOKEN = 0    # part of a symbol, keyword or number; `#` and `'` too
    BLANK = 1       # whitespace, and the comma
    ENDS = 2        # ends a token and starts or closes another form
    NEVER = 3       # @ ` ~ have no place in edn
    HIGH = 4        # part of a UTF-8 sequence


# A name in the cache of tokens.
cdef struct Name:
    uint64_t low            # its bytes in two words; of a longer name `low` is a hash
    uint64_t high
    Py_ssize_t size         # 0: none here
    const char* bytes       # inside `text`
    PyObject* text          # a str; owned
    PyObject* keyword       # its Keyword, once the name was checked, else NULL; owned
    Name* next              # the key that last followed this one


# One read under way. It lies on the caller's stack, so a reader function that reads in turn, or
# another thread, has a state of its own.
cdef struct Source:
    const uint8_t* start        # borrowed from the caller until the read returns
    const uint8_t* pos
    const uint8_t* end
    # The options of the Reader.
    PyObject* readers           # borrowed from it: a dict
    int max_depth
    bint keyword_keys
    bint tagged
    # Where the read is.
    int depth                   # forms around the present one
    int discards                # above 0: inside `#_`, where no reader function is called
    Py_ssize_t collisions       # keys and members whose hash another had
    Py_ssize_t ratios           # in keys and members
    double work                 # pairs of bytes that comparing such keys may have taken
    Name* key                   # the last keyword key; NULL: none yet
    # Members of the collections that are open, owned. So a list is made in its size at once.
    PyObject** items
    Py_ssize_t count
    Py_ssize_t capacity
    PyObject* room[64]


# Begin a read of these bytes with the options of `like`, or the default ones if it is NULL.
cdef void open_source(
    Source* s, const uint8_t* data, Py_ssize_t size, const Source* like) noexcept
# Drop what an error has left. After a read that succeeded there is nothing to drop.
cdef void drop_source(Source* s) noexcept

# The stack of members. Both steal the reference, even if there is no memory.
cdef int grow_items(Source* s, PyObject* reference) except -1
cdef inline int push(Source* s, PyObject* reference) except -1:
    if unlikely(s.count == s.capacity):
        grow_items(s, reference)
    s.items[s.count] = reference
    s.count += 1
    return 0

# Raise EdnDecodeError with the byte position, line, and column of `at`.
cdef int fail(Source* s, const uint8_t* at, str message) except -1

cdef bint is_high_blank(int point) noexcept     # whitespace past ASCII


# -- tokens: names --

# Return what breaks the rules of names in `ns/name` (UTF-8, without a keyword's colon); 0: nothing.
cdef int name_fault(const uint8_t* text, Py_ssize_t size) noexcept
cdef str fault_text(int fault)
# Return whether it is ASCII without a colon, with at most one slash that is well placed.
# Most names are.
cdef bint is_plain(const uint8_t* text, Py_ssize_t size) noexcept

# Return a name from the cache, with its Keyword; NULL: it is not plain, or long.
cdef Name* plain_name(Source* s, const uint8_t* first, Py_ssize_t size) except? NULL
# Return an ASCII string from the same cache: for string keys of maps.
cdef PyObject* cached_text(
    Source* s, const uint8_t* first, Py_ssize_t size) except NULL


# -- numbers, literals --

# Return a Fraction, or an int; the denominator is positive.
cdef object ratio_of(object above, object below)
# Return the UUID of this text, or None if it is none.
cdef object uuid_of(str text)


# -- keys: the limits on keys and members --

@cython.final
cdef class CollisionLimit:
    # Of the keys of one map or the members of one set.
    cdef int others         # those whose hash a peer can choose at will
    cdef dict counts        # hash -> keys; None until it is needed


# Count one more key that is no str, read from `at` to s.pos; `container` has those before it.
# `collisions`: s.collisions before it was read; `hashed`: the container will be hashed, too.
# Return the limit, which is None as long as no key needs one.
cdef CollisionLimit limit_collisions(
    Source* s, const uint8_t* at, CollisionLimit limit, object container, object key,
    Py_ssize_t collisions, bint hashed)

# Count one more ratio in a key or member, which begins at `at`.
cdef int limit_ratio(Source* s, const uint8_t* at) except -1


# -- parser: collections --

# Make a list or a tuple of the members from s.items[base] on, and take them off the stack.
cdef inline PyObject* take_list(Source* s, Py_ssize_t base) except NULL:
    cdef Py_ssize_t i, size = s.count - base
    cdef PyObject* result = new_list(size)
    for i in range(size):
        fill_list(result, i, s.items[base + i])
    s.count = base
    return result

cdef inline PyObject* take_tuple(Source* s, Py_ssize_t base) except NULL:
    cdef Py_ssize_t i, size = s.count - base
    cdef PyObject* result = new_tuple(size)
    for i in range(size):
        fill_tuple(result, i, s.items[base + i])
    s.count = base
    return result

# Pass on what `put` into a map raised, for the key at `at`. Keys too deep to compare are an
# error in the text.
cdef int put_failed(Source* s, const uint8_t* at) except -1
# Turn the dict at s.items[base] into a StrDict: its text keys become keywords.
cdef int with_text(Source* s, Py_ssize_t base) except -1
# Turn it into a FrozenDict, or FrozenStrDict; it begins at `start`.
cdef int freeze(Source* s, Py_ssize_t base, const uint8_t* start, bint has_text) except -1
# Return an empty FrozenDict, to be filled and then frozen.
cdef PyObject* new_frozen() except NULL


# -- reader --

cdef enum Found:
    READ_FAILED = -1
    PAIR = 0
    NO_FORM = 1     # nothing but whitespace, comments, and discarded forms
    NO_PAIR = 2     # a form that has no elements in order


@cython.final
cdef class Reader:
    # Holds options alone: one reader serves any number of reads, nested ones too.
    cdef readonly bint keyword_keys     # `{:a 1}` has the key "a" (else Keyword("a"))
    cdef readonly int max_depth
    cdef readonly dict readers          # tag -> function of one value
    cdef readonly bint tagged           # a tag without a reader makes a Tagged; else it is refused

    # Return the first form, and set `end` to the offset behind it; to -1 (and return None) if
    # there was nothing but whitespace, comments, and discarded forms.
    cdef object read_from(
        self, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos, Py_ssize_t* end)
    # Read the vector or list that data begins with, as `read_event` of the parser does; all parts
    # are None if the form is nil.
    cdef Found read_pair(
        self, const uint8_t* data, Py_ssize_t size, int* length, PyObject** parts
    ) except READ_FAILED
    cdef void _open(self, Source* s, const uint8_t* data, Py_ssize_t size) noexcept
