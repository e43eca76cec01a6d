# Between an edge and what the edge serves: two interfaces, as C method tables, and the limit on the
# bytes that have arrived and are not handled.
#
#   edge --Link.take, Link.cork--> channel      what one peer sends
#   edge <--Transport.write------- channel      what goes to that peer
#
# Nothing here knows what the bytes mean.

from libc.stdint cimport uint8_t


cdef class Transport:
    # A C method table of the hot path. Sockets override it in Cython; polls and frameworks in
    # Python.
    # What it can do; set once, before anything is written.
    cdef public bint streams            # any number of writes; False: one, which is the answer
    cdef public bint receives           # the client's messages come on it, too
    cdef public bint heard              # bytes came since the last look of the keep-alive

    # Send all packets in one send, in order. False: closed, nothing was taken.
    cpdef bint write(self, list packets)
    # Idempotent. One that does not stream ends its request with 503 instead of a code.
    cpdef close(self, int code=*, str reason=*)
    # Take a reply made while the transport's own read is handled: it goes out at the end of the
    # read, before anything that `write` takes after it. 0: not now, and nothing was taken.
    cdef int gather_reply(self, const uint8_t* payload, Py_ssize_t size, bint is_binary) except -1
    # If it does not stream: answer the request with a Response that is not a packet (a 400, a
    # 503).
    cpdef refuse(self, response)
    # Bytes that write has accepted and the kernel has not taken yet.
    cpdef Py_ssize_t backlog(self)
    # False: read no more (what was read and not taken stays with the edge).
    # True: pass to the dispatch what was not taken, then read on.
    cpdef set_reading(self, bint on)


cdef class Link:
    # The other direction: what an edge passes the messages of one peer to.

    # Take one message as received, borrowed until it returns. 1: taken. 0: no room, nothing was
    # taken; the edge keeps the message and all behind it, stops reading, and passes it again
    # after set_reading(True).
    cdef int take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1
    # End a read: everything it made goes out in one send, with what waited before it.
    cdef int cork(self) except -1


cdef class Share:
    # What one connection holds. Of no use once ended.
    cdef Incoming incoming          # None: ended
    cdef Py_ssize_t size
    cdef Py_ssize_t index           # in incoming.shares
    cdef object cut                 # call(owner): give up what it holds
    cdef object owner


cdef class Incoming:
    cdef readonly Py_ssize_t limit
    cdef readonly Py_ssize_t held   # bytes of all shares
    cdef readonly Py_ssize_t sockets  # accepted by servers of our own, and not gone yet
    cdef list shares                # each knows its index
    cdef bint is_cutting
    cdef readonly set reading       # call(): end the reading of a body that a framework has

    cpdef Share enter(self, object cut, object owner)
    cpdef resize(self, Share share, Py_ssize_t size)
    cpdef end(self, Share share)
    cdef int _cut_down(self, Py_ssize_t most) except -1
