# One value to its edn spelling: strings, characters, numbers, #inst, #uuid; as Clojure's pr-str
# spells it. And the output buffer that it is put on. No collection, no name.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

cdef extern from *:
    # Strings made by the old Py_UNICODE functions are not ready before 3.12.
    """
    #if PY_VERSION_HEX < 0x030C0000
    #define CHSK_READY(s) (PyUnicode_READY(s))
    #else
    #define CHSK_READY(s) (0)
    #endif
    """
    int CHSK_READY(object text) except -1

cdef enum:
    MARGIN = 128    # bytes that are always free behind OutputBuffer.end


# What is written on. First memory of the caller's, then a bytes object that grows; so a short
# text costs no allocation but the result. `at`, where the next byte goes, is no field: it is
# handed from function to function, and stays in a register.
cdef struct OutputBuffer:
    uint8_t* start          # borrowed, or into store
    uint8_t* end            # short of the true end by MARGIN
    PyObject* store         # owned bytes object; NULL: none was needed yet

cdef inline void open_output(OutputBuffer* output, uint8_t* memory, Py_ssize_t size) noexcept:
    output.start = memory
    output.end = memory + size - MARGIN
    output.store = NULL

# Make room for `count` bytes and the margin; returns where `at` now is.
cdef uint8_t* grow(OutputBuffer* output, uint8_t* at, Py_ssize_t count) except NULL
# The text as bytes; the buffer is used up.
cdef bytes close_output(OutputBuffer* output, uint8_t* at)
cdef void drop_output(OutputBuffer* output) noexcept

cdef inline uint8_t* room(OutputBuffer* output, uint8_t* at, Py_ssize_t count) except NULL:
    return grow(output, at, count) if output.end - at < count else at

# All put the value at `at`, which is at most at the output's end, and return the place behind it,
# then in the margin by 64 bytes at most. They raise EncodeError if edn has no such value.
cdef uint8_t* write_text(OutputBuffer* output, uint8_t* at, object text) except NULL    # as it is
cdef uint8_t* write_string(OutputBuffer* output, uint8_t* at, object text) except NULL
cdef uint8_t* write_character(OutputBuffer* output, uint8_t* at, object value) except NULL
cdef uint8_t* write_int(OutputBuffer* output, uint8_t* at, object value) except NULL
cdef uint8_t* write_float(OutputBuffer* output, uint8_t* at, double value) except NULL
cdef uint8_t* write_decimal(OutputBuffer* output, uint8_t* at, object value) except NULL    # finite
cdef uint8_t* write_fraction(OutputBuffer* output, uint8_t* at, object value) except NULL
cdef uint8_t* write_instant(OutputBuffer* output, uint8_t* at, object moment) except NULL   # in UTC
cdef uint8_t* write_uuid(OutputBuffer* output, uint8_t* at, object value) except NULL

# What came, for a message.
cdef str shown_value(object value)
