# What is due when: one timer for everything that waits, however much waits.
# No session, socket or policy here: a due entry is a call and its argument.


cdef class Entry:
    # Something that becomes due once. Owned by the queue while it waits in one.
    cdef double due
    cdef object call                # call(arg); None once it ran or was cancelled
    cdef object arg
    cdef Queue queue                # None: in no queue
    cdef Entry next
    cdef Entry previous


cdef class Queue:
    # Entries with one delay, so that the order of entering is the order of becoming due.
    cdef double delay
    cdef Entry first
    cdef Entry last


cdef class TimerQueue:
    cdef object clock
    cdef list queues
    cdef double planned             # when the clock will wake us; < 0: it will not
    cdef bint is_running            # entries are due, and the clock is not asked to wake us
    cdef readonly double lag        # seconds that the last wake came late
    cdef readonly bint is_late      # and that is more than a loop's ordinary noise
    cdef readonly object log_limit  # for whatever the channel's peers can cause

    cpdef Entry schedule(self, double delay, object call, object arg)
    cpdef cancel(self, Entry entry)
    cdef int _plan(self) except -1
    cdef Entry _first_due(self, double now)
