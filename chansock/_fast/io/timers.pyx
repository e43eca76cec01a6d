# cython: language_level=3
"""What is due when: keep-alive, grace, polls, and time-outs in one queue.

Each delay is one of a few settings, so entries with the same delay share one queue, in the order in
which they become due: scheduling, canceling, and finding the next one are O(1), and the clock holds
a single timer. No session, socket, or policy here.
"""

cimport cython

import logging

from chansock._core.log_limit import LogLimit

log = logging.getLogger("chansock.timers")

cdef double NOISE = 0.05        # seconds

cdef enum:
    SLICE = 64                  # entries to run before other callbacks: 0.1 ms to 1 ms


@cython.final
@cython.freelist(64)            # a connection has several, one after the other
cdef class Entry:
    """A call that becomes due once. `TimerQueue.schedule` returns it, for `cancel`."""


@cython.final
cdef class Queue:
    def __cinit__(self, double delay):
        self.delay = delay


cdef int _unlink(Entry entry) except -1:
    cdef Queue queue = entry.queue
    if entry.previous is None:
        queue.first = entry.next
    else:
        entry.previous.next = entry.next
    if entry.next is None:
        queue.last = entry.previous
    else:
        entry.next.previous = entry.previous
    entry.queue = None
    entry.next = None
    entry.previous = None
    return 0


@cython.final
cdef class TimerQueue:
    """Runs each entry once after its delay, in order of due time.

    `clock` is a chansock.clock.Clock; only this class uses its `wake`. An entry that raises is
    logged, and the others run. If many are due, each turn of the loop runs a slice. `log_limit`
    limits the log lines of the channel that this queue serves; it schedules its summaries here.
    """

    def __cinit__(self, clock):
        self.clock = clock
        self.queues = []
        self.planned = -1.0
        self.lag = 0.0
        self.log_limit = LogLimit(clock.now, self.schedule)

    cpdef Entry schedule(self, double delay, object call, object arg):
        """Call `call(arg)` once, `delay` seconds from now."""
        cdef Queue queue = None
        cdef Queue candidate
        for candidate in self.queues:
            if candidate.delay == delay:
                queue = candidate
                break
        if queue is None:
            queue = Queue(delay)
            self.queues.append(queue)
        cdef Entry entry = Entry()
        entry.due = <double>self.clock.now() + delay
        entry.call = call
        entry.arg = arg
        entry.queue = queue
        entry.previous = queue.last
        if queue.last is None:
            queue.first = entry
        else:
            queue.last.next = entry
        queue.last = entry
        if not self.is_running and (self.planned < 0 or entry.due < self.planned):
            self._plan()
        return entry

    cpdef cancel(self, Entry entry):
        """Cancel an entry. None, and an entry that ran or was canceled, are ignored."""
        if entry is None or entry.queue is None:
            return
        _unlink(entry)
        entry.call = None
        entry.arg = None

    cdef int _plan(self) except -1:
        cdef Queue queue
        cdef double due = -1.0
        cdef int k = <int>len(self.queues)
        while k > 0:
            k -= 1
            queue = self.queues[k]
            if queue.first is None:
                # A caller may compute delays; their queues must not accumulate.
                del self.queues[k]
            elif due < 0 or queue.first.due < due:
                due = queue.first.due
        if due >= 0 and due != self.planned:
            self.clock.wake(due, self.run)
        self.planned = due
        return 0

    def run(self):
        """Run the entries that are due; the clock calls this at the time passed to `wake`."""
        if self.planned >= 0:
            self.lag = max(0.0, <double>self.clock.now() - self.planned)
            self.is_late = self.lag > NOISE
        self.planned = -1.0
        self.is_running = True
        self.run_slice()

    def run_slice(self):
        """Run some entries that are due, and the rest in the next turns."""
        cdef double now = self.clock.now()
        cdef Entry entry = None
        cdef int left = SLICE
        try:
            while left > 0:
                left -= 1
                entry = self._first_due(now)
                if entry is None:
                    break
                _unlink(entry)
                call, arg = entry.call, entry.arg
                entry.call = None
                entry.arg = None
                try:
                    call(arg)
                except Exception:
                    self.log_limit.exception(log, "timer_error call=%r", call)
        finally:
            if self._first_due(now) is not None:
                self.clock.soon(self.run_slice)
            else:
                self.is_running = False
                self._plan()

    cdef Entry _first_due(self, double now):
        cdef Queue queue
        cdef Entry entry = None
        for queue in self.queues:
            if (
                queue.first is not None and queue.first.due <= now
                and (entry is None or queue.first.due < entry.due)
            ):
                entry = queue.first
        return entry
