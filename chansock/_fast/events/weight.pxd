# What a decoded value holds in memory. Asked once for each event whose handler waits, never for
# one that is handled at once.

# Return the bytes of value and of all that it contains, or some number above `most` as soon as
# the count passes `most`: the walk ends there, so `most` bounds its work too. It does not recurse.
cdef Py_ssize_t weight(object value, Py_ssize_t most) except -1
