# Bytes in and out of one asyncio transport: the shared read buffer, what is left over of a
# read, and the one place of send(2). No HTTP, no frame, no endpoint.
#
#   in:   get_buffer --kernel--> buffer_updated --> consume --> keep what was not taken
#   out:  send --> send(2);  behind a backlog, under TLS, on an odd transport: transport.write

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t
from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.io.transport cimport Transport
from chansock._fast.io.flag cimport flag


cdef class Window:
    # Memory as a Python buffer, without owning it: what get_buffer gives.
    cdef uint8_t* data
    cdef Py_ssize_t size


cdef enum:
    SPARES = 4                      # stores that wait for their next use


cdef class Memory:
    # Shared by all sockets of a listener; never in use between two calls of the loop.
    cdef uint8_t* buffer            # owned: what one read fills
    cdef Py_ssize_t size
    cdef Py_ssize_t most            # that one read takes; less while many share a turn
    cdef uint8_t* scratch           # owned: where several pieces become one send
    cdef Window window

    # What one read makes, until its end; and whose it is (borrowed: looked at, not into)
    cdef WriteBuffer gathered
    cdef PyObject* owner
    # Of several reads: what was made before the last of them, by whom, and whether it is to wait
    cdef Py_ssize_t base            # bytes of it; those of the owner lie behind
    cdef list deferred              # of Socket
    cdef bint puts_off

    # Large stores of frames that are done with, owned
    cdef uint8_t* spares[SPARES]
    cdef Py_ssize_t spare_sizes[SPARES]
    cdef int spare_count

    # A store of at least size, which it sets; touched: bytes of it that were used before
    cdef uint8_t* lend(self, Py_ssize_t* size, Py_ssize_t* touched) except NULL
    cdef int take_back(self, uint8_t* store, Py_ssize_t size) noexcept
    cdef int send_put_off(self) except -1
    cdef int share(self, Py_ssize_t busy) noexcept


cdef class Socket(Transport):
    # The transport
    cdef Memory memory
    cdef object asyncio_transport   # None: not connected
    cdef int fd                     # -1: no send(2) here (TLS, an odd transport, closing, gone)
    cdef flag shares                # the transport is epoll's, and has write_rest
    cdef flag is_tls
    cdef flag has_backlog           # the transport holds bytes: everything goes behind them
    cdef flag is_direct             # the kernel writes into the store: the rest of a large frame
    cdef flag is_paused             # the transport was told to read no more

    # Bytes that lie in memory.gathered until others have been read, and go before all that is sent
    cdef Py_ssize_t put_off
    cdef Py_ssize_t put_off_at

    # What was read and not taken, or the beginning of a large frame; owned
    cdef uint8_t* store
    cdef Py_ssize_t begin           # where what is kept begins in it
    cdef Py_ssize_t stored
    cdef Py_ssize_t capacity
    cdef Py_ssize_t touched         # bytes of it that have ever been written, so that they are held
    cdef Py_ssize_t burst           # bytes read since others had their turn, as a subclass sees to

    cdef int meet(self, object transport) except -1

    # Reading: where the next one goes, and how much it was. consume is the subclass's: take what
    # can be taken of data, keep the rest.
    cdef int room(self, uint8_t** data, Py_ssize_t* size) except -1
    cdef int took(self, Py_ssize_t size) except -1
    cdef inline bint is_empty(self) noexcept:   # what is read next may lie anywhere
        return not (self.stored or self.is_direct)
    cdef int took_ahead(self, uint8_t* data, Py_ssize_t size) except -1
    cdef int consume(self, uint8_t* data, Py_ssize_t size) except -1
    cdef int keep(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t whole) except -1
    cdef int drop_store(self) noexcept
    cdef int pause(self) except -1
    cdef int resume(self) except -1

    # Writing, now as much as the kernel takes. 1: taken; 0: broken, and the transport aborted.
    # A pair is sent from where its parts lie: for what is too large to be moved.
    cdef int send(self, const uint8_t* data, Py_ssize_t size, bytes whole) except -1
    cdef int send_pair(
        self, const uint8_t* head, Py_ssize_t head_size, const uint8_t* data, Py_ssize_t size
    ) except -1
    cdef int send_bytes(self, bytes data) except -1
    cdef int send_all(self, list pieces) except -1

    # Put aside until the end of a read, which must call end_gathering. 0: broken.
    cdef inline bint is_gathering(self) noexcept:
        return self.memory.owner == <PyObject*>self
    cdef int gather(
        self, const uint8_t* head, Py_ssize_t head_size, const uint8_t* data, Py_ssize_t size
    ) except -1
    cdef int send_gathered(self) except -1
    cdef bytes take_gathered(self)
    cdef int end_gathering(self) except -1
    cdef int send_put_off(self) except -1
    cdef Py_ssize_t _sent_in_part(self, Py_ssize_t sent) except -2
    cdef int64_t taken(self) except -1
    cdef int broken(self) except -1     # the subclass's: what to do about it
