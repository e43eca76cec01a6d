# Coroutines whose first step runs at once, in a task that waits for that.
#
#   begin --first step--> done: the worker stays idle
#                    \--> waits: the worker's task goes on with it --> idle again, or over
#
# Nothing here knows what the coroutines do.


cdef bint is_same_context(object context, object other) except -1


cdef class Worker:
    # An idle task, and what it awaits meanwhile: as asyncio sees it, a future.
    cdef Workers pool
    cdef object task
    cdef object context
    cdef object wakeup                  # call(self) resumes the task; None: it is not parked
    cdef object job                     # the coroutine that it goes on with
    cdef Py_ssize_t weakrefs            # to the task, by asyncio alone
    cdef public bint _asyncio_future_blocking
    cdef bint is_touched                # a call of the task has an effect that outlives a coroutine
    cdef bint is_awaited
    cdef bint is_cancelled

    cdef bint is_as_new(self) except -1
    cdef int dismiss(self) except -1


cdef class Begun:
    # The rest of a coroutine, awaited. It first yields what the first step yielded.
    cdef object coro
    cdef object waits_for
    cdef bint has_yielded
    cdef bint is_cancelled              # before its task went on


cdef class Workers:
    cdef readonly object loop
    cdef object context                 # which each worker has a copy of
    cdef Worker first                   # one that is parked; or None
    cdef list idle                      # the others: a list of one would be grown at each return
    cdef readonly set tasks             # of those that are not
    cdef object hired                   # a task that is on its way to be idle; or None
    cdef bint is_within                 # there may be a current task when one begins
    cdef bint is_stopped

    cdef int hire(self) except -1
    cdef Worker take(self)
    cdef Worker _next(self)
    cdef int park(self, Worker worker) except -1
    cdef int put_back(self, Worker worker) except -1
