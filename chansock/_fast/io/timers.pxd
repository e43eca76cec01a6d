# What is due when: one timer for all entries, however many wait.
# No session, socket, or policy here: an entry is a call and its argument.


cdef class Entry:
    # Something that becomes due once. Owned by the queue while it waits in one.
    cdef double due
    cdef object call                # call(arg); None once it ran or was cancelled
    cdef object arg
    cdef Queue queue                # None: in no queue
    cdef Entry next
    cdef Entry previous


cdef class Queue:
    # Entries with one delay, so they become due in the order in which they were scheduled.
    cdef double delay
    cdef Entry first
    cdef Entry last


cdef class TimerQueue:
    cdef object clock
    cdef list queues
    cdef double planned             # when the clock calls `run`; < 0: it does not
    cdef bint is_running            # entries are due, and `wake` is not called
    cdef readonly double lag        # seconds that the last wake came late
    cdef readonly bint is_late      # lag is more than a loop's ordinary noise
    cdef readonly object log_limit  # for lines that the channel's peers can cause

    cpdef Entry schedule(self, double delay, object call, object arg)
    cpdef cancel(self, Entry entry)
    cdef int _plan(self) except -1
    cdef Entry _first_due(self, double now)
