# One write under way: how deep it is, which keys it has put, the path to what it refuses.
# For each format that has edn's values. It puts nothing itself.

from libc.stdint cimport uint8_t
from libc.stdlib cimport free

from chansock._fast.edn.scalars cimport OutputBuffer, drop_output, open_output


# How many collections stand around a value that is packed. An event's data counts those of a
# batch, since the event may be put into one: `[[[:id data] ...] nil]`.
cdef enum:
    IN_PACKET = 1       # `[value cb-id]`
    IN_BATCH = 3


# Where on the output buffer the text of a key or member lies.
cdef struct Mark:
    Py_ssize_t start
    Py_ssize_t size


# It lies on the caller's stack. Values are borrowed PyObject*; what may call Python code holds
# them first.
cdef struct EncodeState:
    OutputBuffer output
    int depth               # those of the packet around the value count, as they do in a reader
    int max_depth
    bint is_careful         # the keys of each map are looked at before it is written
    int hops                # through default= and Enum, on the way to the present value
    Py_ssize_t converted    # values written as another: Enum, subclass, default=, NaN
    Mark* marks             # of the keys and members of all maps and sets under way
    Py_ssize_t marked
    Py_ssize_t marks_room

# `depth`: how many collections of its packet stand around the value.
cdef inline void open_state(
        EncodeState* w, int depth, int max_depth, uint8_t* memory, Py_ssize_t size) noexcept:
    w.depth = depth
    w.is_careful = False
    w.hops = 0
    w.max_depth = max_depth
    w.converted = 0
    w.marks = NULL
    w.marked = w.marks_room = 0
    open_output(&w.output, memory, size)

# Let go of what an error has left; of an encoding that succeeded only the marks.
cdef inline void drop_state(EncodeState* w) noexcept:
    free(w.marks)
    w.marks = NULL
    drop_output(&w.output)

cdef inline void drop_marks(EncodeState* w) noexcept:
    free(w.marks)
    w.marks = NULL

# Into a collection that is not empty; raises at max_depth. Its end: w.depth -= 1.
cdef inline int enter(EncodeState* w) except -1:
    if w.depth >= w.max_depth:
        too_deep(w)
    w.depth += 1
    return 0

cdef int too_deep(EncodeState* w) except -1

# Into what stands for another value, by default= or as an Enum's value; raises if `value` came
# by too many. Its end: w.hops -= 1.
cdef int hop(EncodeState* w, object value) except -1

cdef int mark(EncodeState* w, const uint8_t* start, const uint8_t* end) except -1
# The first text that is there twice, among those marked from `marked` on and those in `names`.
cdef bytes find_duplicate(EncodeState* w, Py_ssize_t marked, list names)

# The instant in UTC, counted as converted if it was not; None: it has no time zone.
cdef object in_utc(EncodeState* w, object moment)

# One step of a path, `[3]`, `["user"]`, and its place at the front, on the way out.
cdef str step(object key)
cdef int lengthen(object error, str step) except -1
