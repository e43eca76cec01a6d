# What has come and is not taken yet: its bytes, of all connections of one channel.
# No socket, no request, no frame here: sizes, and whom to cut.


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
