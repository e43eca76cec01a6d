# The logs: for each target the newest events that are kept, for clients that come back.
#
# One counter numbers the events of all targets, so that one position, a number, says what a client
# has of all its logs. A log forgets its oldest events past keep_events, past keep_seconds, and
# past the bytes that one log may hold; and all its events if the logs together hold more than
# keep_bytes, those first that were not appended to for the longest time. It remembers the number of
# the newest event that it forgot: a client with an older position has missed something.
#
# Times are not kept with events. Now and then a mark notes the time and the newest event: events up
# to a mark that is older than keep_seconds are too old.
#
# Which logs there are, and whose they are, is up to the backplane.


cdef enum:
    AROUND_LOG = 16         # bytes of an event in a log besides its own: its place in the list
    MARKS = 50              # time marks within keep_seconds


@cython.final
cdef class EventLog:
    """The kept events of one target."""

    def __len__(self):
        return 0 if self.fragments is None else len(self.fragments) - self.first


cdef inline Py_ssize_t _logged_bytes(Fragment fragment) noexcept:
    return PyBytes_GET_SIZE(fragment.data) + (AROUND_EVENT - AROUND_NODE) + AROUND_LOG


@cython.final
cdef class EventLogs:
    """All logs of one backplane, and the counter of their events.

    `keep_events`, `keep_seconds`, and `max_bytes` limit each log, `keep_bytes` all together.
    """

    def __cinit__(
        self, clock, *, Py_ssize_t keep_events, double keep_seconds, Py_ssize_t keep_bytes,
        Py_ssize_t max_bytes,
    ):
        self.clock = clock
        self.keep_events = keep_events
        self.keep_seconds = keep_seconds
        self.keep_bytes = keep_bytes
        self.max_bytes = max_bytes
        self.filled = {}
        self.marks = deque()
        self.marked = -1e300

    cpdef append(self, EventLog log, Fragment fragment):
        """Number an event, and store it in a log; None: no client may ask for it."""
        self.seq += 1
        fragment.seq = self.seq
        if log is None or not fragment.is_kept:
            return
        if not fragment.is_exact:
            fragment.data = exact(fragment.data)
            fragment.is_exact = True
        if not log.nbytes:
            self.filled[log] = None
            if log.fragments is None:       # an idle user owns no list
                log.fragments = []
        log.is_touched = True
        log.fragments.append(fragment)
        log.nbytes += _logged_bytes(fragment)
        self.nbytes += _logged_bytes(fragment)
        while log.nbytes and (
            len(log.fragments) - log.first > self.keep_events or log.nbytes > self.max_bytes
        ):
            self.drop_first(log)
        self.appended = self.mark(self.seq - 1)
        if self.nbytes > self.keep_bytes or self.seq % 16 == 0:
            self.make_room()

    cdef int drop_first(self, EventLog log) except -1:
        cdef Fragment fragment = log.fragments[log.first]
        log.missing = fragment.seq
        log.nbytes -= _logged_bytes(fragment)
        self.nbytes -= _logged_bytes(fragment)
        log.fragments[log.first] = None
        log.first += 1
        if not log.nbytes:
            log.fragments = None
            log.first = 0
            self.filled.pop(log, None)
        elif 2 * log.first >= len(log.fragments):   # not sooner: the rest is moved
            del log.fragments[:log.first]
            log.first = 0
        return 0

    cdef double mark(self, int64_t seq) except -1:
        # Return the time. Note the newest event so far and its time, if that is due, and find out
        # up to which event all are too old.
        cdef double now = self.clock.now()
        if now - self.marked >= self.keep_seconds / MARKS:
            self.marks.append((self.appended, seq))
            self.marked = now
            while self.marks and self.marks[0][0] + self.keep_seconds < now:
                self.expired = self.marks.popleft()[1]
        return now

    cdef int expire(self, EventLog log) except -1:
        # Forget the events that are too old.
        while log.nbytes and (<Fragment>log.fragments[log.first]).seq <= self.expired:
            self.drop_first(log)
        return 0

    cdef int make_room(self) except -1:
        # Look at the log that was not appended to for the longest time, and at more of them while
        # all hold too much. One that was touched meanwhile gets a later turn.
        cdef EventLog log
        cdef bint is_first = True
        while self.filled and (is_first or self.nbytes > self.keep_bytes):
            is_first = False
            log = next(iter(self.filled))
            if log.is_touched:
                log.is_touched = False
                del self.filled[log]
                self.filled[log] = None
            elif self.nbytes > self.keep_bytes:
                self.clear(log)
            else:
                self.expire(log)
        return 0

    def clear(self, EventLog log not None):
        """Forget all events of a log."""
        while log.nbytes:
            self.drop_first(log)

    def read(self, logs, int64_t since, int64_t before):
        """Return the events of these logs after `since` and before `before`, in their order.

        `before` 0: up to the newest. Of each key of `latest` only the newest is returned. None:
        some are missing, or there may be, or they are more than `max_bytes`.
        """
        cdef EventLog log
        cdef Fragment fragment
        cdef Py_ssize_t nbytes = 0
        cdef list found = []
        self.mark(self.seq)
        if since > self.seq:
            return None
        if before and since + 1 >= before:
            return found
        for log in logs:
            self.expire(log)
            if log.missing > since:
                return None
            if not log.nbytes:
                continue
            keys = set()
            for fragment in reversed(log.fragments[log.first:]):
                if fragment.seq <= since:
                    break
                if before and fragment.seq >= before:
                    continue
                if fragment.key is not None:
                    if fragment.key in keys:
                        continue
                    keys.add(fragment.key)
                nbytes += _logged_bytes(fragment)
                found.append((fragment.seq, fragment))
        if nbytes > self.max_bytes:
            return None
        found.sort()
        return [fragment for _, fragment in found]
