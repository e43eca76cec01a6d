# A part of edn/writer: the state of one write, for each format that has edn's values: its depth,
# its keys, and the path to a value that it refuses. Nothing here writes.

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.datetime cimport datetime_tzinfo, get_utc, import_datetime
from libc.stdint cimport uint8_t
from libc.stdlib cimport realloc

from chansock.errors import EncodeError

import_datetime()


cdef int too_deep(EncodeState* w) except -1:
    raise EncodeError(f"expected at most {w.max_depth} forms around a form, got more")


cdef int hop(EncodeState* w, object value) except -1:
    w.converted += 1
    w.hops += 1
    if w.hops > w.max_depth:
        raise EncodeError(
            f"expected default= to end at a writable value, got {shown_value(value)}")
    return 0


# -- keys --

cdef int mark(EncodeState* w, const uint8_t* start, const uint8_t* end) except -1:
    cdef void* grown
    if w.marked == w.marks_room:
        w.marks_room = max(16, 2 * w.marks_room)
        grown = realloc(w.marks, w.marks_room * sizeof(Mark))
        if grown is NULL:
            raise MemoryError
        w.marks = <Mark*>grown
    w.marks[w.marked].start = start - w.output.start
    w.marks[w.marked].size = end - start
    w.marked += 1
    return 0


cdef bytes find_duplicate(EncodeState* w, Py_ssize_t marked, list names):
    # Two keys that differ in Python may have one text: an Enum and its value, two NaN. Only texts
    # of one length are compared. So the number of times that a byte is compared is logarithmic in
    # the size of the whole text, not equal to its depth.
    cdef dict sizes = {}
    cdef set texts = set()
    cdef Py_ssize_t k
    cdef bytes text
    for text in names:
        sizes[len(text)] = sizes.get(len(text), 0) + 1
    for k in range(marked, w.marked):
        sizes[w.marks[k].size] = sizes.get(w.marks[k].size, 0) + 1
    for k in range(marked, w.marked):
        if sizes[w.marks[k].size] > 1:
            names.append(PyBytes_FromStringAndSize(
                <char*>w.output.start + w.marks[k].start, w.marks[k].size))
    for text in names:
        if text in texts:
            return text
        texts.add(text)
    return None


# -- instants --

cdef object in_utc(EncodeState* w, object moment):
    if datetime_tzinfo(moment) is get_utc():
        return moment
    if moment.utcoffset() is None:
        return None
    w.converted += 1    # in a fold, unequal to the same instant of another zone
    try:
        return moment.astimezone(get_utc())
    except OverflowError:
        raise EncodeError(
            f"expected a time in the years 1 to 9999 of UTC, got {shown_value(moment)}"
        ) from None


# -- paths --

cdef str step(object key):
    cdef str text
    if type(key) is str:
        text = repr(key[:80])
        return f'["{text[1:len(text) - 1]}"]'
    return f"[{shown_value(key)}]"


cdef int lengthen(object error, str step) except -1:
    error.path = step + error.path
    error.args = (error.message, error.path)
    return 0
