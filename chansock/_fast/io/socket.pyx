# cython: language_level=3
"""Bytes in and out of one asyncio transport, as fast as the loop allows.

All sockets read into one shared buffer and keep only the bytes that are left over. A send goes
straight to the kernel if no bytes wait before it. A subclass handles the bytes in `consume`;
Socket is a base class because of the C method table of that path. No HTTP, no frame, no endpoint.
"""

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.errno cimport EAGAIN, EINTR, errno
from libc.stdint cimport int64_t, uint32_t
from libc.stdlib cimport free, malloc
from libc.string cimport memcpy, memmove, memset

import sys

cdef extern from "sys/socket.h" nogil:
    const int MSG_DONTWAIT
    const int MSG_NOSIGNAL
    struct msghdr:
        iovec* msg_iov
        size_t msg_iovlen
    ssize_t sendmsg(int fd, const msghdr* message, int flags)
    int getsockopt(int fd, int level, int name, void* value, unsigned int* size)

cdef extern from "io/calls.h" nogil:
    Py_ssize_t c_send "chansock_send" (int fd, const void* data, Py_ssize_t size)

cdef extern from "sys/uio.h" nogil:
    struct iovec:
        void* iov_base
        size_t iov_len

cdef enum:
    READ_SIZE = 262144          # 64 KiB costs 3 %; with 1 MiB one flooder holds a turn for long
    LEAST_READ = 16384          # the same, while many connections flood
    LARGE = 65536               # a longer frame gets a store of its own size
    SCRATCH_SIZE = 262144       # longer pieces are joined into bytes of their own
    MAX_GATHERED = 262144       # the replies of one read go out in sends of this size
    MAX_COPIED = 65536          # longer data is sent from where it is
    MAX_SPARE = 2097152         # of a store that is kept: new memory costs a large frame a tenth
    MAX_SURPLUS = 262144        # of a store beyond its frame: bytes read into it are moved

    # Linux's struct tcp_info, whose newer fields are missing in the libc's headers
    SOL_TCP = 6
    TCP_INFO = 11
    INFO_WORDS = 19             # of 64 bits each
    UNACKED = 6                 # tcpi_unacked: its place, in 32 bits each
    NOTSENT_BYTES = 36          # tcpi_notsent_bytes: the same
    BYTES_ACKED = 15            # tcpi_bytes_acked: in 64 bits each

# The transports without TLS whose sockets may be written to directly.
cdef object DIRECT = frozenset({
    ("chansock._fast.io.epoll", "EpollTransport"),
    ("uvloop.loop", "TCPTransport"),
    ("uvloop.loop", "UnixTransport"),
    ("asyncio.selector_events", "_SelectorSocketTransport"),
})
cdef dict KNOWN = {}            # class of a transport -> whether it is one of those
cdef bint IS_LINUX = sys.platform == "linux"


@cython.final
cdef class Window:
    """Borrowed memory as a Python buffer; it has len() because asyncio calls that."""

    def __len__(self):
        return self.size

    def __getbuffer__(self, Py_buffer* view, int flags):
        PyBuffer_FillInfo(view, self, self.data, self.size, 0, flags)

    def __releasebuffer__(self, Py_buffer* view):
        pass


@cython.final
cdef class Memory:
    """The memory that all sockets of a listener share. A read has room for `least` bytes."""

    def __cinit__(self, Py_ssize_t least=0):
        self.size = self.most = max(<Py_ssize_t>READ_SIZE, least)
        self.window = Window()
        self.deferred = []
        self.gathered = WriteBuffer()
        self.buffer = <uint8_t*>malloc(self.size)
        self.scratch = <uint8_t*>malloc(SCRATCH_SIZE)
        if self.buffer == NULL or self.scratch == NULL:
            raise MemoryError

    def __dealloc__(self):
        cdef int k
        free(self.buffer)
        free(self.scratch)
        for k in range(self.spare_count):
            free(self.spares[k])

    cdef int share(self, Py_ssize_t busy) noexcept:
        # Read less of each while `busy` connections have more than they may do in a turn.
        self.most = max(<Py_ssize_t>LEAST_READ, self.size // (1 + busy))
        return 0

    cdef uint8_t* lend(self, Py_ssize_t* size, Py_ssize_t* touched) except NULL:
        # Return a store that the caller owns; for a large frame a spare one.
        cdef uint8_t* store
        cdef int k
        touched[0] = 0
        for k in range(self.spare_count):
            if size[0] > LARGE and 0 <= self.spare_sizes[k] - size[0] <= MAX_SURPLUS:
                store = self.spares[k]
                size[0] = touched[0] = self.spare_sizes[k]
                self.spare_count -= 1
                self.spares[k] = self.spares[self.spare_count]
                self.spare_sizes[k] = self.spare_sizes[self.spare_count]
                return store
        store = <uint8_t*>malloc(size[0])
        if store == NULL:
            raise MemoryError
        return store

    cdef int take_back(self, uint8_t* store, Py_ssize_t size) noexcept:
        # Free a store, or keep it for the next large frame.
        if not LARGE < size <= MAX_SPARE:
            free(store)
        elif self.spare_count < SPARES:
            self.spares[self.spare_count] = store
            self.spare_sizes[self.spare_count] = size
            self.spare_count += 1
        else:
            # Free the oldest, so that sizes that are not used any more do not stay.
            free(self.spares[0])
            memmove(&self.spares[0], &self.spares[1], (SPARES - 1) * sizeof(uint8_t*))
            memmove(
                &self.spare_sizes[0], &self.spare_sizes[1], (SPARES - 1) * sizeof(Py_ssize_t)
            )
            self.spares[SPARES - 1] = store
            self.spare_sizes[SPARES - 1] = size
        return 0

    cdef int send_put_off(self) except -1:
        # Send the replies that sockets have put off, each its own.
        cdef list deferred = self.deferred
        cdef Socket socket
        deferred.reverse()
        while deferred:
            socket = deferred.pop()     # the others still know where their bytes are
            try:
                socket.send_put_off()
            except Exception:
                socket.broken()         # bytes are missing now: nothing may follow them
        self.base = 0
        self.gathered.cut(0)
        return 0


cdef bint _is_direct(type kind) except -1:
    found = KNOWN.get(kind)
    if found is None:
        found = KNOWN[kind] = (kind.__module__, kind.__name__) in DIRECT
    return found


def is_direct(transport):
    """Return whether a transport is known to be just its socket, without TLS."""
    return _is_direct(type(transport))


cdef class Socket(Transport):
    """One accepted socket. A subclass overrides `consume` and `broken`."""

    def __cinit__(self, *args, **kwargs):
        self.fd = -1

    def __dealloc__(self):
        free(self.store)

    cdef int meet(self, object transport) except -1:
        # Take the transport, and its file descriptor if the socket may use it.
        self.asyncio_transport = transport
        if _is_direct(type(transport)):
            sock = transport.get_extra_info("socket")
            if sock is not None:
                self.fd = sock.fileno()
                self.shares = sock is transport
        else:
            self.is_tls = transport.get_extra_info("sslcontext") is not None
        if self.fd < 0:
            # Then pause_writing and resume_writing mean: bytes wait, no bytes wait. With a
            # high-water mark of 0, asyncio's TLS pauses even if no bytes wait.
            transport.set_write_buffer_limits(1, 0)
        return 0

    # -- reading

    def get_buffer(self, Py_ssize_t hint):
        """Return the memory for the next read: never of size 0, else the loop hangs up."""
        cdef Window window = self.memory.window
        self.room(&window.data, &window.size)
        # asyncio's TLS slices the buffer.
        return memoryview(window) if self.is_tls else window

    def buffer_updated(self, Py_ssize_t size):
        """Handle the bytes that were read."""
        self.took(size)

    cdef int room(self, uint8_t** data, Py_ssize_t* size) except -1:
        # Set the memory for the next read.
        cdef Memory memory = self.memory
        if self.is_direct:
            data[0] = self.store + self.begin + self.stored
            size[0] = self.capacity - self.begin - self.stored
        else:
            if self.stored:
                # Copy it to the front, so one read gets the rest of it and all that follows.
                memcpy(memory.buffer, self.store + self.begin, self.stored)
            data[0] = memory.buffer + self.stored
            size[0] = min(memory.size - self.stored, memory.most)
        return 0

    cdef int took(self, Py_ssize_t size) except -1:
        self.heard = True
        self.burst += size
        if self.is_direct:
            self.stored += size
            self.touched = max(self.touched, self.begin + self.stored)
            self.consume(self.store + self.begin, self.stored)
        else:
            self.consume(self.memory.buffer, self.stored + size)
        return 0

    cdef int took_ahead(self, uint8_t* data, Py_ssize_t size) except -1:
        # Handle bytes that were read for this socket into some place of the shared buffer.
        self.heard = True
        self.burst += size
        return self.consume(data, size)

    def feed(self, bytes data not None):
        """Handle bytes that other code has read for this socket."""
        cdef uint8_t* place
        cdef Py_ssize_t room, at = 0, size = PyBytes_GET_SIZE(data)
        while at < size and self.asyncio_transport is not None:
            self.room(&place, &room)
            room = min(room, size - at)
            memcpy(place, PyBytes_AS_STRING(data) + at, room)
            at += room
            self.took(room)

    cdef int consume(self, uint8_t* data, Py_ssize_t size) except -1:
        raise NotImplementedError

    cdef int keep(self, const uint8_t* data, Py_ssize_t size, Py_ssize_t whole) except -1:
        # Keep the bytes that were not taken; data may be in the store itself. `whole`: the size of
        # the frame that data begins, 0 if unknown. A large frame gets a store of its whole length,
        # into which the kernel writes the rest.
        cdef Py_ssize_t need = size
        cdef Py_ssize_t gone = 0
        cdef uint8_t* fresh
        self.is_direct = True
        if whole > LARGE:
            need = max(whole, size + 1)
        elif size > self.memory.size // 2:
            need = size + LARGE
        else:
            self.is_direct = False
        if self.store != NULL and self.store <= data <= self.store + self.capacity:
            gone = data - self.store
        if (
            (gone or data == self.store) and gone <= size and gone + need <= self.capacity
            and (need > LARGE or self.capacity <= max(<Py_ssize_t>LARGE, 4 * size))
        ):
            # Bytes that are taken little by little are moved once half is gone, not each time.
            self.begin = gone
        elif need <= self.capacity and (need > LARGE or self.capacity <= LARGE):
            memmove(self.store, data, size)
            self.begin = 0
        else:
            if need > LARGE and whole <= LARGE:
                # All get one size, so that one spare fits them.
                need = max(need, self.memory.size + LARGE)
            fresh = self.memory.lend(&need, &gone)
            memcpy(fresh, data, size)
            self.memory.take_back(self.store, self.capacity)
            self.store = fresh
            self.capacity = need
            self.begin = 0
            self.touched = gone
        self.stored = size
        self.touched = max(self.touched, self.begin + size)
        return 0

    cdef int drop_store(self) noexcept:
        # Drop the store: an idle connection owns no buffer.
        if self.store != NULL:
            self.memory.take_back(self.store, self.capacity)
        self.store = NULL
        self.begin = self.stored = self.capacity = self.touched = 0
        self.is_direct = False
        return 0

    cdef int pause(self) except -1:
        if not self.is_paused and self.asyncio_transport is not None:
            self.is_paused = True
            self.asyncio_transport.pause_reading()
        return 0

    cdef int resume(self) except -1:
        if self.is_paused and self.asyncio_transport is not None:
            self.is_paused = False
            self.asyncio_transport.resume_reading()
        return 0

    # -- writing

    cpdef Py_ssize_t backlog(self):
        if self.asyncio_transport is None or not (self.has_backlog or self.fd < 0):
            return 0
        return self.asyncio_transport.get_write_buffer_size()

    def pause_writing(self):
        """Note that the transport holds bytes."""
        self.has_backlog = True

    def resume_writing(self):
        """Note that the transport holds no bytes any more."""
        self.has_backlog = False

    cdef int send(self, const uint8_t* data, Py_ssize_t size, bytes whole) except -1:
        # Send as much as the kernel takes; the transport gets the rest. `whole` is the object whose
        # content data is, or None.
        cdef Py_ssize_t sent = 0
        if self.asyncio_transport is None or (self.put_off and not self.send_put_off()):
            return 0
        if self.fd >= 0 and not self.has_backlog:
            sent = c_send(self.fd, data, size)
            if sent == size:
                return 1
            sent = self._sent_in_part(sent)
            if sent < 0:
                return 0
            if whole is not None and self.shares and size - sent >= sent:
                # Many may wait for the rest of the same frame: they share the object.
                self.asyncio_transport.write_rest(whole, sent)
                return 1
        if sent or whole is None:
            whole = PyBytes_FromStringAndSize(<const char*>data + sent, size - sent)
        self.asyncio_transport.write(whole)
        return 1

    cdef int send_pair(
        self, const uint8_t* head, Py_ssize_t head_size, const uint8_t* data, Py_ssize_t size
    ) except -1:
        cdef Py_ssize_t sent = 0
        cdef iovec[2] parts
        cdef msghdr message
        if self.asyncio_transport is None or (self.put_off and not self.send_put_off()):
            return 0
        if self.fd >= 0 and not self.has_backlog:
            memset(&message, 0, sizeof(message))
            parts[0].iov_base, parts[0].iov_len = <void*>head, head_size
            parts[1].iov_base, parts[1].iov_len = <void*>data, size
            message.msg_iov, message.msg_iovlen = parts, 2
            sent = sendmsg(self.fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL)
            if sent == head_size + size:
                return 1
            sent = self._sent_in_part(sent)
            if sent < 0:
                return 0
        if sent < head_size:
            self.asyncio_transport.write(
                PyBytes_FromStringAndSize(<const char*>head + sent, head_size - sent)
            )
            sent = head_size
        sent -= head_size
        self.asyncio_transport.write(
            PyBytes_FromStringAndSize(<const char*>data + sent, size - sent)
        )
        return 1

    cdef Py_ssize_t _sent_in_part(self, Py_ssize_t sent) except -2:
        # The transport takes over from a send. Return how many bytes that sent. -1: broken.
        if sent < 0:
            if errno != EAGAIN and errno != EINTR:
                self.broken()
                return -1
            sent = 0
        # From here on, the transport pauses and resumes exactly when bytes wait.
        self.asyncio_transport.set_write_buffer_limits(0)
        return sent

    cdef int send_bytes(self, bytes data) except -1:
        return self.send(<const uint8_t*>PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), data)

    cdef int send_all(self, list pieces) except -1:
        # Send several pieces in order, in one send.
        cdef Py_ssize_t total = 0
        cdef bytes piece
        cdef uint8_t* out = self.memory.scratch
        if len(pieces) == 1:
            return self.send_bytes(pieces[0])
        for piece in pieces:
            total += PyBytes_GET_SIZE(piece)
        if total > SCRATCH_SIZE:
            return self.send_bytes(b"".join(pieces))
        for piece in pieces:
            memcpy(out, PyBytes_AS_STRING(piece), PyBytes_GET_SIZE(piece))
            out += PyBytes_GET_SIZE(piece)
        return self.send(self.memory.scratch, total, None)

    cdef int gather(
        self, const uint8_t* head, Py_ssize_t head_size, const uint8_t* data, Py_ssize_t size
    ) except -1:
        # Put head and data aside, or send them behind the bytes that were put aside.
        cdef Memory memory = self.memory
        cdef WriteBuffer out = memory.gathered
        cdef int is_open
        if not self.is_gathering():
            out.cut(memory.base)        # bytes of a socket that broke in its read
            if memory.base > MAX_GATHERED // 2:
                memory.send_put_off()
            memory.owner = <PyObject*>self
        elif out.size + size > MAX_GATHERED:
            if not self.send_gathered():
                return 0
            memory.owner = <PyObject*>self
        out.put(head, head_size)
        if size <= MAX_COPIED:
            if size:
                out.put(data, size)
            return 1
        memory.owner = NULL
        is_open = self.send_pair(out.data + memory.base, out.size - memory.base, data, size)
        out.cut(memory.base)
        return is_open

    cdef int send_gathered(self) except -1:
        # Send the bytes that were put aside. 0: broken.
        cdef Memory memory = self.memory
        cdef Py_ssize_t size = memory.gathered.size - memory.base
        memory.owner = NULL
        memory.gathered.cut(memory.base)
        return self.send(memory.gathered.data + memory.base, size, None) if size else 1

    cdef bytes take_gathered(self):
        # Return the bytes that were put aside, to send them with others.
        cdef Memory memory = self.memory
        cdef Py_ssize_t size = memory.gathered.size - memory.base
        memory.owner = NULL
        memory.gathered.cut(memory.base)
        return PyBytes_FromStringAndSize(<char*>memory.gathered.data + memory.base, size)

    cdef int end_gathering(self) except -1:
        # Send the bytes that were put aside, or leave them until others have been read, too.
        cdef Memory memory = self.memory
        if not memory.puts_off:
            return self.send_gathered()
        memory.owner = NULL
        self.put_off_at = memory.base
        self.put_off = memory.gathered.size - memory.base
        memory.base = memory.gathered.size
        memory.deferred.append(self)
        return 1

    cdef int send_put_off(self) except -1:
        # Send the bytes that were put off: they go before all others.
        cdef Py_ssize_t size = self.put_off
        self.put_off = 0
        return self.send(self.memory.gathered.data + self.put_off_at, size, None) if size else 1

    cdef int64_t taken(self) except -1:
        # Return a counter of the bytes that the peer took, while more bytes wait for it; 0: none
        # wait. No transport shows what waits below TLS, but Linux knows what was acknowledged.
        cdef int64_t[INFO_WORDS] info
        cdef const uint32_t* words = <const uint32_t*>info
        cdef unsigned int size = sizeof(info)
        cdef Py_ssize_t waiting = self.backlog()
        cdef int fd = -1
        transport = self.asyncio_transport
        sock = None if transport is None else transport.get_extra_info("socket")
        if IS_LINUX and sock is not None:
            fd = sock.fileno()
        if (
            fd >= 0 and getsockopt(fd, SOL_TCP, TCP_INFO, info, &size) == 0
            and size == sizeof(info)
        ):
            if waiting or words[UNACKED] or words[NOTSENT_BYTES]:
                return info[BYTES_ACKED]
            return 0
        return (1LL << 62) - waiting if waiting else 0

    cdef int broken(self) except -1:
        self.fd = -1
        self.asyncio_transport.abort()
        return 0
