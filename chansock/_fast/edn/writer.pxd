# Python values to edn text: what the other modules of the engine use of it. The writer of
# MessagePack shares the output buffer, the known names, the records, and the state of a write.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t
from libc.stdlib cimport free

from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.io.cpython_api cimport hash_of_text


# -- scalars: the output buffer --

cdef enum:
    MARGIN = 128    # bytes that are always free behind OutputBuffer.end


# Where a writer puts its text: first memory of the caller, then a bytes object that grows. So a
# short text costs no allocation but the result. `at`, where the next byte goes, is not a field:
# functions pass it on, so it stays in a register.
cdef struct OutputBuffer:
    uint8_t* start          # borrowed, or into store
    uint8_t* end            # short of the true end by MARGIN
    PyObject* store         # owned bytes object; NULL: none was needed yet

cdef inline void open_output(OutputBuffer* output, uint8_t* memory, Py_ssize_t size) noexcept:
    output.start = memory
    output.end = memory + size - MARGIN
    output.store = NULL

# Make room for `count` bytes and the margin, and return where `at` now is.
cdef uint8_t* grow(OutputBuffer* output, uint8_t* at, Py_ssize_t count) except NULL
# Return the text as bytes; the buffer is used up.
cdef bytes close_output(OutputBuffer* output, uint8_t* at)
cdef void drop_output(OutputBuffer* output) noexcept

cdef inline uint8_t* room(OutputBuffer* output, uint8_t* at, Py_ssize_t count) except NULL:
    return grow(output, at, count) if output.end - at < count else at

# Return a value as error messages show it: its repr, cut.
cdef str shown_value(object value)


# -- names: the keywords that are known --

cdef enum:
    SETS = 1024
    WAYS = 4
    LONGEST_TEXT = 48       # bytes


cdef extern from "edn/known.h":
    # A keyword's name that was checked, with its text, so that a map's key is put in one step.
    ctypedef struct Known "chansock_known":
        PyObject* name          # owned: a str or a Keyword
        uint32_t size           # of text; 0: the name is too long for it
        uint8_t[52] text        # `, :name `

# By hash, four to a set. Bounded, since peers choose the names.
cdef Known[4096] KNOWN

cdef Known* known_text(Known* set, PyObject* name) noexcept

# Return the entry of a str or a Keyword, if there is one: by identity, else by its text.
cdef inline Known* known(PyObject* name) noexcept:
    cdef Known* entry = &KNOWN[(<size_t>hash_of_text(name) & (SETS - 1)) * WAYS]
    cdef int way
    for way in range(WAYS):
        if entry[way].name == name:
            return entry + way
    return known_text(entry, name)


# Return why edn has no keyword of this name; None: it has, and the name is known from now on.
cdef str keyword_trouble(object name)
cdef int refuse_keyword(object name, bint is_key, str trouble) except -1
# Return whether the keys of a map that is not a StrDict are strings: all are plain str, and one is
# not the name of a keyword.
cdef bint has_text_keys(dict value) except -1


# -- records: values of other types --

cdef enum:
    KIND_UNKNOWN = 0
    KIND_ENUM
    KIND_TEXT
    KIND_WHOLE
    KIND_REAL
    KIND_MAP
    KIND_STRING_MAP         # a StrDict
    KIND_SEQUENCE
    KIND_SET
    KIND_MOMENT
    KIND_UUID
    KIND_DECIMAL
    KIND_RATIO
    KIND_RECORD


# What the writer knows of a class; made when the first of its instances is written.
@cython.final
cdef class Shape:
    cdef readonly int kind
    # of records only
    cdef tuple names        # of the attributes that are fields
    cdef tuple keys         # what each is called on the wire
    cdef dict leading       # entries that are the same for all instances
    cdef object unset       # msgspec's UNSET: such a field is left out
    cdef bint is_model      # pydantic's: the fields lie in __dict__, and there may be more
    cdef bint is_root       # its one field stands for it
    cdef tuple computed     # properties that belong to it

    # Return the dict of keyword names to values to write for a record; for a root model its root.
    cdef object fields(self, object value)
    cdef dict _attributes(self, object value)
    cdef object _model(self, object value)

cdef Shape shape_of(object kind)


# -- encode_state: one write --

cdef enum:
    # How many collections surround a value that is packed. An event's data counts those of a
    # batch, since the event may be put into one: `[[[:id data] ...] nil]`.
    IN_PACKET = 1       # `[value cb-id]`
    IN_BATCH = 3


# Where in the output buffer the text of a key or member is.
cdef struct Mark:
    Py_ssize_t start
    Py_ssize_t size


# One write under way. It lies on the caller's stack. Values are borrowed PyObject*; code that may
# call Python code holds them first.
cdef struct EncodeState:
    OutputBuffer output
    # The options of the writer.
    int max_depth
    bint keyword_keys       # a plain str key of a plain dict is a keyword
    bint tagged             # Tagged is written; else it is refused
    PyObject* default       # borrowed from the writer; None: there is none
    # Where the write is.
    int depth               # those of the packet around the value count, as they do in a reader
    bint is_careful         # check the keys of each map before it is written
    int hops                # through default= and Enum, on the way to the present value
    Py_ssize_t converted    # values written as another: Enum, subclass, default=, NaN
    void* keys              # of a format that numbers its keys; NULL: no key refers to another
    Mark* marks             # of the keys and members of all maps and sets under way
    Py_ssize_t marked
    Py_ssize_t marks_room

# `depth`: how many collections of its packet surround the value.
cdef inline void open_state(
        EncodeState* w, int depth, int max_depth, bint keyword_keys, PyObject* default,
        uint8_t* memory, Py_ssize_t size) noexcept:
    w.max_depth = max_depth
    w.keyword_keys = keyword_keys
    w.tagged = False
    w.default = default
    w.depth = depth
    w.is_careful = False
    w.hops = 0
    w.converted = 0
    w.keys = NULL
    w.marks = NULL
    w.marked = w.marks_room = 0
    open_output(&w.output, memory, size)

# Drop what an error has left.
cdef inline void drop_state(EncodeState* w) noexcept:
    free(w.marks)
    w.marks = NULL
    drop_output(&w.output)

# After a write that succeeded, only the marks are left to drop.
cdef inline void drop_marks(EncodeState* w) noexcept:
    free(w.marks)
    w.marks = NULL

# Enter a collection that is not empty; raise at max_depth. Leave it by w.depth -= 1.
cdef inline int enter(EncodeState* w) except -1:
    if w.depth >= w.max_depth:
        too_deep(w)
    w.depth += 1
    return 0

cdef int too_deep(EncodeState* w) except -1

# Enter what stands for another value, by default= or as an Enum's value; raise after too many.
# Leave it by w.hops -= 1.
cdef int hop(EncodeState* w, object value) except -1

cdef int mark(EncodeState* w, const uint8_t* start, const uint8_t* end) except -1
# Return the first text that occurs twice, among those marked from `marked` on and those in `names`.
cdef bytes find_duplicate(EncodeState* w, Py_ssize_t marked, list names)

# Return the instant in UTC, counted as converted if it was not; None: it has no time zone.
cdef object in_utc(EncodeState* w, object moment)

# Return one step of a path, `[3]`, `["user"]`; put it in front of an error's path, on the way out.
cdef str step(object key)
cdef int lengthen(object error, str step) except -1


# -- values --

# Declared, and so exported, only to keep compilers from inlining these into the loops over a map or
# a list, whose variables would then not fit into registers.
cdef uint8_t* _entry(
    EncodeState* w, uint8_t* at, PyObject* key_, PyObject* item_, int key_place,
    Py_ssize_t* converted) except NULL
cdef uint8_t* _member(
    EncodeState* w, uint8_t* at, PyObject* member_, Py_ssize_t index) except NULL


# -- writer --

@cython.final
cdef class Writer:
    # Holds options alone: one writer serves any number of writes, nested ones too.
    cdef readonly bint keyword_keys     # a plain str key of a plain dict is a keyword
    cdef readonly int max_depth
    cdef readonly bint tagged           # Tagged is written; else it is refused
    cdef readonly object default        # returns a value to write for any other; or None

    # Write `[first second]`, each as if it stood alone. With is_named the first is a str and is
    # written as a keyword: this is an event, whose depth counts as in a batch. Without has_second
    # write `[first]`. The text replaces what `out` holds, and None is returned; a long text, and
    # any text if `out` is None, is returned.
    cdef bytes put_pair(
        self, object first, object second, bint is_named, bint has_second, WriteBuffer out)

    cdef void _open(self, EncodeState* w, int depth, uint8_t* memory) noexcept
    cdef bytes _encode(self, object value, bint is_careful)
    cdef bytes _put_pair(
        self, object first, object second, bint is_named, bint has_second, WriteBuffer out,
        bint is_careful)
