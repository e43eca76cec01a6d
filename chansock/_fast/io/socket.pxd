# Bytes in and out of one asyncio transport: the shared read buffer, the bytes that a read leaves
# over, and the only call of send(2). No HTTP, no frame, no endpoint.
#
#   in:   get_buffer --kernel--> buffer_updated --> consume --> keep the rest
#   out:  send --> send(2);  behind a backlog, under TLS, on an odd transport: transport.write

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t
from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.io.transport cimport Transport
from chansock._fast.io.flag cimport flag


cdef class Window:
    # Borrowed memory as a Python buffer: the result of get_buffer.
    cdef uint8_t* data
    cdef Py_ssize_t size


cdef enum:
    SPARES = 4                      # stores that wait for their next use


cdef class Memory:
    # Shared by all sockets of a listener; never in use between two calls of the loop.
    cdef uint8_t* buffer            # owned: what one read fills
    cdef Py_ssize_t size
    cdef Py_ssize_t most            # bytes of one read; fewer while many share a turn
    cdef uint8_t* scratch           # owned: where several pieces become one send
    cdef Window window

    # The replies of one read, until its end, and their socket (borrowed: only compared)
    cdef WriteBuffer gathered
    cdef PyObject* owner
    # Of several reads: the replies made before the last of them, and whether they have to wait
    cdef Py_ssize_t base            # bytes of them; those of the owner are behind
    cdef list deferred              # of Socket
    cdef bint puts_off

    # Large stores of frames that are finished, owned
    cdef uint8_t* spares[SPARES]
    cdef Py_ssize_t spare_sizes[SPARES]
    cdef int spare_count

    # Return a store of at least size, which is updated; touched: bytes of it used before
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
    cdef flag is_paused             # the transport has paused reading

    # Bytes that wait in memory.gathered until others have been read; they go before all others
    cdef Py_ssize_t put_off
    cdef Py_ssize_t put_off_at

    # Bytes that were read and not taken, or the beginning of a large frame; owned
    cdef uint8_t* store
    cdef Py_ssize_t begin           # where the kept bytes begin in it
    cdef Py_ssize_t stored
    cdef Py_ssize_t capacity
    cdef Py_ssize_t touched         # bytes of it that were ever written: they take memory
    cdef Py_ssize_t burst           # bytes read since others had their turn; a subclass resets it

    cdef int meet(self, object transport) except -1

    # Reading: where the next read goes, and its size. A subclass has consume, which handles data as
    # far as possible and keeps the rest.
    cdef int room(self, uint8_t** data, Py_ssize_t* size) except -1
    cdef int took(self, Py_ssize_t size) except -1
    cdef inline bint is_empty(self) noexcept:   # the next bytes may be anywhere
        return not (self.stored or self.is_direct)
    cdef int took_ahead(self, uint8_t* data, Py_ssize_t size) except -1
    cdef int consume(self, uint8_t* data, Py_ssize_t size) except -1
    cdef int keep(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t whole) except -1
    cdef int drop_store(self) noexcept
    cdef int pause(self) except -1
    cdef int resume(self) except -1

    # Writing: at once as much as the kernel takes. 1: taken; 0: broken, and the transport aborted.
    # A pair is sent from where its parts are: for data that is too large to copy.
    cdef int send(self, const uint8_t* data, Py_ssize_t size, bytes whole) except -1
    cdef int send_pair(
        self, const uint8_t* head, Py_ssize_t head_size, const uint8_t* data, Py_ssize_t size
    ) except -1
    cdef int send_bytes(self, bytes data) except -1
    cdef int send_all(self, list pieces) except -1

    # Putting replies aside until the end of a read, which must call end_gathering. 0: broken.
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
    cdef int broken(self) except -1     # a subclass ends the connection
