# Which keys and members a map or set may have: they can be hashed, and a peer can make
# neither many keys of one hash nor comparisons that take long.

cimport cython
from libc.stdint cimport uint8_t

from chansock._fast.edn.source cimport Source


@cython.final
cdef class CollisionLimit:
    # Of the keys of one map or the members of one set.
    cdef int others         # those whose hash a peer can choose at will
    cdef dict counts        # hash -> keys; None until it is needed


# One more key that is no str, read from `at` to s.pos; `container` has those before it.
# `collisions`: s.collisions before it was read; `hashed`: the container will be hashed, too.
# Returns the limit, which is None as long as no key needs one.
cdef CollisionLimit limit_collisions(
    Source* s, const uint8_t* at, CollisionLimit limit, object container, object key,
    Py_ssize_t collisions, bint hashed)

# One more ratio in a key or member, which begins at `at`.
cdef int limit_ratio(Source* s, const uint8_t* at) except -1
