# A part of edn/reader: which keys a map may have, and which members a set. They must be hashable,
# and a peer must be able to make neither many keys of one hash nor comparisons that take long.
#
# Python keys its hash for str alone. So keys of one hash are counted, and there may be 32.
# Two that have one hash are compared, which takes as long as they are, but up to the product
# of their lengths if inside them, too, there are members of one hash. For those the reader
# keeps an account of the work, which the length of the whole text bounds.
#
# Python hashes a ratio in a microsecond, the time of ten other members, and does so up to three
# times. Four bytes make a ratio, so the length of the text bounds their number, too.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.io.cpython_api cimport PyLong_AsLongLongAndOverflow
from chansock.values import FrozenDict

cdef enum:
    MOST_OF_ONE_HASH = 32
    WORK_FREE = 200_000     # pairs of bytes: a millisecond, and the 32 edges of a small grid
    WORK_PER_BYTE = 16
    RATIOS_FREE = 2048      # in keys and members: some 5 ms
    BYTES_PER_RATIO = 64


@cython.final
cdef class CollisionLimit:
    pass


cdef inline bint _is_keyed(object key) noexcept:
    # Strings are hashed with a secret, and no more than 34 floats have one hash.
    return isinstance(key, str) or type(key) is float


cdef inline bint _is_small(object key) noexcept:
    # An integer that is its own hash; only -1 and -2 share one.
    cdef int overflow = 0
    cdef long long value
    if type(key) is not int:
        return False
    value = PyLong_AsLongLongAndOverflow(<PyObject*>key, &overflow)
    return not overflow and -(1LL << 60) < value < (1LL << 60)


cdef CollisionLimit limit_collisions(
        Source* s, const uint8_t* at, CollisionLimit limit, object container, object key,
        Py_ssize_t collisions, bint hashed):
    cdef bint is_crowded = s.collisions != collisions
    cdef Py_ssize_t size = s.pos - at
    cdef int before
    cdef Py_hash_t mark = 0
    if _is_keyed(key) or limit is None and not hashed and _is_small(key):
        return limit
    if limit is None and hashed and len(container) == 0 and type(key) is FrozenDict:
        return None     # it has its hash, and is alone so far; the next one counts it, too
    try:
        mark = hash(key)
    except (TypeError, RecursionError) as error:    # what a reader function made
        fail(s, at, f"expected a key or member that can be hashed, got {error}")
    if limit is None and hashed and len(container) == 0:
        return None     # as above
    if limit is None:
        limit = CollisionLimit.__new__(CollisionLimit)
    if not _is_small(key):
        limit.others += 1
    if limit.counts is None:
        # what is not hashed itself need not know of a few that meet in it
        if not (hashed or is_crowded or limit.others >= MOST_OF_ONE_HASH):
            return limit
        limit.counts = {}
        for earlier in container:
            if not _is_keyed(earlier):
                _count(limit, hash(earlier))
    before = _count(limit, mark)
    if before >= MOST_OF_ONE_HASH:
        fail(s, at, f"expected at most {MOST_OF_ONE_HASH} keys of one hash, got more")
    if before:
        s.collisions += 1
        if is_crowded:
            s.work += <double>before * size * size
            if s.work > WORK_FREE + <double>WORK_PER_BYTE * (s.end - s.start):
                fail(s, at, "expected keys that are soon told apart, got many of one hash, "
                            "which have members of one hash")
    return limit


cdef int limit_ratio(Source* s, const uint8_t* at) except -1:
    cdef Py_ssize_t most = RATIOS_FREE + (s.end - s.start) // BYTES_PER_RATIO
    s.ratios += 1
    if s.ratios > most:
        fail(s, at, f"expected at most {most} ratios in keys and members, got more")
    return 0


cdef int _count(CollisionLimit limit, object mark) except -1:
    # Return how many of this hash there were before.
    cdef int before = limit.counts.get(mark, 0)
    limit.counts[mark] = before + 1
    return before
