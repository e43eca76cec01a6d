# cython: language_level=3
"""The bytes that have come and are not taken yet, of all connections of one channel.

Bodies and messages that are not whole, requests whose hooks wait, and what was read behind
them. Each connection that holds any has a Share; past the limit the largest shares are cut.
What a share's bytes are, and how a connection ends, is its owner's business.
"""

cimport cython


@cython.final
@cython.freelist(64)
cdef class Share:
    """What one connection holds; `Incoming.enter` makes it."""


def _size_of(Share share not None):
    return share.size


@cython.final
cdef class Incoming:
    """Bounds the bytes of all shares by `limit`, and counts the sockets that were accepted.

    Past the limit, the owners of the largest shares are cut until an eighth of it is free.
    So a connection that holds less than its part of the limit is not cut, however many hold
    theirs for long, and the search for the largest is paid for by the bytes that came since.
    """

    def __cinit__(self, Py_ssize_t limit):
        self.limit = limit
        self.shares = []
        self.reading = set()

    cpdef Share enter(self, object cut, object owner):
        """Make a share of no bytes. If it has to go, it is ended, and then `cut(owner)` is called,
        which must not raise."""
        cdef Share share = Share.__new__(Share)
        share.incoming = self
        share.cut = cut
        share.owner = owner
        share.index = len(self.shares)
        self.shares.append(share)
        return share

    cpdef resize(self, Share share, Py_ssize_t size):
        """Set the bytes of a share; past the limit, cut the largest: it may be this one."""
        if share is None or share.incoming is not self:
            return
        self.held += size - share.size
        share.size = size
        if self.held > self.limit and not self.is_cutting:
            self._cut_down(self.limit - self.limit // 8)

    cpdef end(self, Share share):
        """Take a share out, in O(1); harmless for None and for one that has ended."""
        cdef Share last
        if share is None or share.incoming is None:
            return
        self.held -= share.size
        last = self.shares.pop()
        if last is not share:
            self.shares[share.index] = last
            last.index = share.index
        share.incoming = share.cut = share.owner = None

    def stop(self):
        """End the reading of bodies that frameworks have under way: nothing waits for them."""
        for end in list(self.reading):
            end()

    cdef int _cut_down(self, Py_ssize_t most) except -1:
        cdef Share share
        self.is_cutting = True
        try:
            for share in sorted(self.shares, key=_size_of, reverse=True):
                if self.held <= most:
                    break
                cut, owner = share.cut, share.owner
                self.end(share)
                if cut is None:
                    continue            # it ended with one before it
                cut(owner)
        finally:
            self.is_cutting = False
        return 0
