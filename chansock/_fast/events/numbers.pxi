# What the server knows of the events of a client that resumes: how many it took, which of them are
# handled, and the replies that may not have arrived.
#
# Client and server count the client's events, so that no number travels with an event on a
# WebSocket. An event counts when it is taken: it is then handled once, whatever happens to the
# connection. It is acknowledged when its handler has finished.
#
# A reply is kept as it was written until the client says that it waits for none as old. The
# replies stand one behind the other in chunks of memory, each behind its number, counted from the
# first one of its chunk, and its size:
#
#     oldest: | number | size | packet | number | size | packet | -> ... -> newest
#
# They are dropped a chunk at a time, so that no single one has to be looked at.
#
# Which client has which numbers, and for how long, is decided elsewhere.


cdef enum:
    HEAD = 8                    # bytes of a reply's number and size
    CHUNK = 1024                # bytes of a chunk with its fields; more for a longer reply
    MAX_REPLIES = 1 << 20       # bytes of replies that are kept for one client
    ACK_EVENTS = 256            # an acknowledgment is sent after so many events
    ACK_BYTES = 65_536          # or after so many bytes of them


@cython.final
cdef class Replies:
    """The memory that the kept replies of all clients take, and its limit, in bytes."""

    def __cinit__(self, Py_ssize_t limit):
        self.limit = limit


@cython.final
cdef class Numbers:
    """The numbers of one client's events, and the replies to them that may have been lost.

    `received`: the newest event that the client knows to be handled. `redelivered`: events up to
    this number may have been handled before, by a server that does not exist any more.
    """

    def __cinit__(self, int64_t received, int64_t redelivered, Replies all_replies not None):
        self.received = self.told = self.acked = received
        self.redelivered = redelivered
        self.all_replies = all_replies

    def __dealloc__(self):
        while self.oldest is not NULL:
            self.drop_oldest()

    cdef int64_t handled(self, Inbox inbox) except -1:
        # Return the newest number up to which all events are handled.
        cdef int64_t lowest = self.received + 1
        cdef EventMsg msg
        if inbox.unfinished == 0:
            return self.received
        if inbox.is_running and self.current:
            lowest = min(lowest, self.current)
        elif inbox.queue:
            for msg in inbox.queue:
                if msg.number:      # else it is a ping or a pong
                    lowest = min(lowest, msg.number)
                    break
        if self.apart:
            lowest = min(lowest, <int64_t>next(iter(self.apart)))
        return max(0, lowest - 1)

    def handled_by(self, Inbox inbox not None):
        """Return the newest number up to which all events are handled; the inbox is its client's.
        """
        return self.handled(inbox)

    # -- replies

    cdef int keep_reply(self, int64_t number, const uint8_t* data, Py_ssize_t size) except -1:
        # Keep a reply.
        cdef Chunk* chunk = self.newest
        cdef int32_t head[2]
        cdef uint8_t* at
        if (
            chunk is NULL or chunk.used + HEAD + size > chunk.room
            or number - chunk.first != <int32_t>(number - chunk.first)
        ):
            chunk = self.new_chunk(number, HEAD + size)
            if chunk is NULL:
                return 0
        at = <uint8_t*>(chunk + 1) + chunk.used
        head[0], head[1] = <int32_t>(number - chunk.first), <int32_t>size
        memcpy(at, head, HEAD)
        memcpy(at + HEAD, data, <size_t>size)
        chunk.used += HEAD + size
        chunk.last = max(chunk.last, number)
        return 0

    cdef Chunk* new_chunk(self, int64_t number, Py_ssize_t size) except? NULL:
        # Return a chunk with room for `size` bytes; the oldest ones go if there are too many. NULL:
        # they are more than may be kept.
        cdef Py_ssize_t room = max(size, CHUNK - <Py_ssize_t>sizeof(Chunk))
        cdef Py_ssize_t most = MAX_REPLIES
        cdef Chunk* chunk
        if self.all_replies.nbytes > self.all_replies.limit:
            most = min(most, self.room // 2)    # all clients together hold too much
        if size > most:
            return NULL
        while self.oldest is not NULL and self.room + room > most:
            self.drop_oldest()
        chunk = <Chunk*>stdlib.malloc(sizeof(Chunk) + <size_t>room)
        if chunk is NULL:
            raise MemoryError
        chunk.next = NULL
        chunk.first = chunk.last = number
        chunk.used, chunk.room = 0, room
        if self.newest is NULL:
            self.oldest = chunk
        else:
            self.newest.next = chunk
        self.newest = chunk
        self.room += room
        self.all_replies.nbytes += room
        return chunk

    cdef int drop_oldest(self) except -1:
        # Free the oldest chunk.
        cdef Chunk* chunk = self.oldest
        self.oldest = chunk.next
        if self.oldest is NULL:
            self.newest = NULL
        self.room -= chunk.room
        self.all_replies.nbytes -= chunk.room
        stdlib.free(chunk)
        return 0

    def keep(self, int64_t number, bytes packet not None):
        """Keep a reply that another process kept before."""
        self.keep_reply(number, <const uint8_t*>packet, len(packet))

    @property
    def nbytes(self):
        """The bytes of memory that the replies take."""
        return self.room

    def forget_replies(self, int64_t before):
        """Forget the replies to events before this number: the client has them.

        Some of them may be kept a little longer.
        """
        while self.oldest is not NULL and self.oldest.last < before:
            self.drop_oldest()

    def replies_from(self, int64_t since):
        """Return the kept replies to events from this number on, as (number, packet)."""
        cdef Chunk* chunk = self.oldest
        cdef Py_ssize_t at
        cdef int32_t head[2]
        cdef char* data
        cdef list found = []
        while chunk is not NULL:
            at = 0
            while at < chunk.used:
                data = <char*>(chunk + 1) + at
                memcpy(head, data, HEAD)
                if chunk.first + head[0] >= since:
                    packet = PyBytes_FromStringAndSize(data + HEAD, head[1])
                    found.append((chunk.first + head[0], packet))
                at += HEAD + head[1]
            chunk = chunk.next
        return found

    # -- POSTs that were sent again

    def wait(self, int64_t number, call):
        """Call `call(packet)` with the reply to an event, or with None once it is handled.

        It returns whether it passed the reply on. Returns the call that was waiting for the same
        event, in place of which this one waits.
        """
        if self.waiters is None:
            self.waiters = {}
        older = self.waiters.get(number)
        self.waiters[number] = call
        return older

    cdef bint answer_waiter(self, int64_t number, bytes packet) except -1:
        # Return whether a POST was answered.
        call = None if self.waiters is None else self.waiters.pop(number, None)
        return call is not None and call(packet)
