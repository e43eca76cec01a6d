# One value to its edn spelling: names, strings, characters, numbers, #inst, #uuid; as Clojure's
# pr-str spells it. No collection.

from chansock._fast.buffer cimport WriteBuffer


# All put the value behind what is there, and raise EdnEncodeError, with part of it put,
# if edn has no such value.
cdef int write_keyword(WriteBuffer out, object name, bint is_key) except -1     # name: a str
cdef int write_symbol(WriteBuffer out, object name) except -1
cdef int write_tag(WriteBuffer out, object tag) except -1
cdef int write_string(WriteBuffer out, object text) except -1
cdef int write_character(WriteBuffer out, object value) except -1
cdef int write_int(WriteBuffer out, object value) except -1
cdef int write_float(WriteBuffer out, double value) except -1
cdef int write_decimal(WriteBuffer out, object value) except -1     # finite
cdef int write_fraction(WriteBuffer out, object value) except -1
cdef int write_instant(WriteBuffer out, object moment) except -1    # aware, in UTC
cdef int write_uuid(WriteBuffer out, object value) except -1

# What came, for a message.
cdef str shown_value(object value)
