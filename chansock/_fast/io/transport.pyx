# cython: language_level=3
"""Between an edge and what the edge serves: the interfaces, and the limit on unhandled bytes.

Transport and Link are base classes, because each event makes several calls through their C method
tables. They hold no logic.

Incoming counts the bytes that have arrived and are not handled yet, for all connections of one
channel: bodies and messages that are not complete, requests whose hooks wait, and the bytes that
were read behind them. Each connection that holds such bytes has a Share; past the limit, the
largest shares are cut. What the bytes of a share are, and how a connection ends, is up to its
owner. No socket, no request, no frame here.
"""

cimport cython


cdef class Transport:
    """What an edge provides to the core for one socket, or for one parked request.

    Each implementation guarantees that `write` takes all packets, in order, or none (False:
    closed); that `close` may be called twice; and that after `set_reading(False)` no message goes
    to the dispatch until `set_reading(True)`.
    """

    cpdef bint write(self, list packets):
        """Send all packets in order, in one send. Return False if closed: nothing was sent."""
        raise NotImplementedError

    cdef int gather_reply(self, const uint8_t* payload, Py_ssize_t size, bint is_binary) except -1:
        return 0

    cpdef close(self, int code=1000, str reason=""):
        """Close after the bytes that were written; a parked request gets the answer 503."""
        raise NotImplementedError

    cpdef refuse(self, response):
        """Answer the request with a Response that is not a packet; only if it does not stream."""
        raise NotImplementedError

    cpdef Py_ssize_t backlog(self):
        """Return how many bytes `write` took that the kernel has not taken yet."""
        return 0

    cpdef set_reading(self, bint on):
        """Stop reading; or pass on what was not taken, and read on."""


cdef class Link:
    """What takes the messages of one socket. A channel's Link is `dispatch.Connection`."""

    cdef int take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1:
        raise NotImplementedError

    cdef int cork(self) except -1:
        raise NotImplementedError


@cython.final
@cython.freelist(64)
cdef class Share:
    """The bytes that one connection holds; `Incoming.enter` makes it."""


def _size_of(Share share not None):
    return share.size


@cython.final
cdef class Incoming:
    """Limits the bytes of all shares, and counts the sockets that were accepted.

    Past `limit`, the owners of the largest shares are cut until an eighth of it is free. So a
    connection that holds less than its part of the limit is never cut, and the cost of the search
    for the largest shares is spread over the bytes that have arrived since the last search.
    """

    def __cinit__(self, Py_ssize_t limit):
        self.limit = limit
        self.shares = []
        self.reading = set()

    cpdef Share enter(self, object cut, object owner):
        """Return a new share of no bytes. A share that is cut ends first; then `cut(owner)` is
        called, which must not raise."""
        cdef Share share = Share.__new__(Share)
        share.incoming = self
        share.cut = cut
        share.owner = owner
        share.index = len(self.shares)
        self.shares.append(share)
        return share

    cpdef resize(self, Share share, Py_ssize_t size):
        """Set the bytes of a share. Past the limit, cut the largest shares, maybe this one."""
        if share is None or share.incoming is not self:
            return
        self.held += size - share.size
        share.size = size
        if self.held > self.limit and not self.is_cutting:
            self._cut_down(self.limit - self.limit // 8)

    cpdef end(self, Share share):
        """Remove a share, in O(1). None and a share that has ended are ignored."""
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
        """End the reading of bodies that frameworks still read: nothing waits for them."""
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
