# What the server knows of the events of a client that resumes: how many it took, which of them are
# handled, and the replies that may not have arrived.
#
# Client and server count the client's events, so that no number travels with an event on a
# WebSocket. An event counts when it is taken: it is then handled once, whatever happens to the
# connection. It is acknowledged when its handler has finished.
#
# A reply is kept as it was written until the client says that it waits for none as old. The
# replies stand one behind the other in one block of memory, each behind its number and its size:
#
#     | number | size | packet | number | size | packet |
#     ^ first                                            ^ end
#
# Which client has which numbers, and for how long, is decided elsewhere.


cdef enum:
    HEAD = 16                   # bytes of a reply's number and size
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
        self.all_replies.nbytes -= self.room
        stdlib.free(self.replies)

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

    cdef int keep_reply(
        self, int64_t number, const uint8_t* data, Py_ssize_t size, Py_ssize_t most
    ) except -1:
        # Keep a reply; the oldest ones go if they are more than `most` bytes.
        cdef Py_ssize_t held = self.end - self.first
        cdef Py_ssize_t room
        cdef uint8_t* replies
        if self.all_replies.nbytes > self.all_replies.limit:
            most = min(most, self.room // 2)    # all clients together hold too much
        if HEAD + size > most:
            return 0
        while held + HEAD + size > most:
            self.drop_first_reply()
            held = self.end - self.first
        if self.end + HEAD + size > self.room:
            if self.first:
                memmove(self.replies, self.replies + self.first, <size_t>held)
                self.first, self.end = 0, held
            # Half is free after each move, so that a byte is moved once on average.
            room = max(512, 2 * (held + HEAD + size))
            if self.room < room:
                replies = <uint8_t*>stdlib.realloc(self.replies, <size_t>room)
                if replies is NULL:
                    raise MemoryError
                self.all_replies.nbytes += room - self.room
                self.replies, self.room = replies, room
        replies = self.replies + self.end
        memcpy(replies, &number, 8)
        memcpy(replies + 8, &size, 8)
        memcpy(replies + HEAD, data, <size_t>size)
        self.end += HEAD + size
        return 0

    def keep(self, int64_t number, bytes packet not None):
        """Keep a reply that another process kept before."""
        self.keep_reply(number, <const uint8_t*>packet, len(packet), MAX_REPLIES)

    cdef int drop_first_reply(self) except -1:
        cdef Py_ssize_t size
        memcpy(&size, self.replies + self.first + 8, 8)
        self.first += HEAD + size
        if self.first == self.end:
            self.all_replies.nbytes -= self.room
            stdlib.free(self.replies)
            self.replies = NULL
            self.first = self.end = self.room = 0
        return 0

    @property
    def nbytes(self):
        """The bytes of memory that the replies take."""
        return self.room

    def forget_replies(self, int64_t before):
        """Forget the replies to events before this number: the client has them."""
        cdef int64_t number
        while self.first < self.end:
            memcpy(&number, self.replies + self.first, 8)
            if number >= before:
                return
            self.drop_first_reply()

    def replies_from(self, int64_t since):
        """Return the kept replies to events from this number on, as (number, packet)."""
        cdef Py_ssize_t at = self.first
        cdef Py_ssize_t size
        cdef int64_t number
        cdef list found = []
        while at < self.end:
            memcpy(&number, self.replies + at, 8)
            memcpy(&size, self.replies + at + 8, 8)
            at += HEAD
            if number >= since:
                found.append((number, PyBytes_FromStringAndSize(<char*>self.replies + at, size)))
            at += size
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
