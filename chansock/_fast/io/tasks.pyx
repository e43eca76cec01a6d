# cython: language_level=3
"""Coroutines and generators that start at once, without a task of their own.

asyncio creates a task for a coroutine and waits for a turn of the loop before its first step,
which takes longer than the step. Workers takes the first step at once, in an idle task:
`asyncio.current_task()` and the context are those of that task. If the coroutine waits, the task
goes on with it to its end. Otherwise, as for most handlers, the task stays idle. A task is not used
again if anything is left of the coroutine: a reference to the task, a callback, a context variable.

`start` does the same for a generator that may have to wait: code needs no second version without
waits, and costs no task where nothing waits. Nothing here knows what the coroutines do.
"""

cimport cython
from cpython.object cimport PyObject

import asyncio
from asyncio import CancelledError, Task
from contextvars import copy_context

cdef extern from *:
    """
    static Py_ssize_t chansock_weak_references(PyObject *o) {
        Py_ssize_t count = 0;
        PyWeakReference *at = *(PyWeakReference **)((char *)o + Py_TYPE(o)->tp_weaklistoffset);
        for (; at != NULL; at = at->wr_next)
            count++;
        return count;
    }
    static int chansock_keep_last(PyObject *visited, void *last) {
        *(PyObject **)last = visited;
        return 0;
    }
    /* The table of a context's variables, which it visits last; only good to be compared. */
    static PyObject *chansock_variables(PyObject *context) {
        PyObject *last = NULL;
        Py_TYPE(context)->tp_traverse(context, chansock_keep_last, &last);
        return last;
    }
    """
    Py_ssize_t weak_references "chansock_weak_references"(PyObject* borrowed) noexcept
    PyObject* variables "chansock_variables"(PyObject* borrowed) noexcept

cdef extern from "Python.h":
    ctypedef int PySendResult
    PySendResult PYGEN_RETURN
    PySendResult PYGEN_NEXT
    PySendResult PYGEN_ERROR
    PySendResult PyIter_Send(object coro, object value, PyObject** result) except -1
    bint PyCoro_CheckExact(object value)
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    void Py_DECREF(PyObject* owned) noexcept
    void Py_XDECREF(PyObject* owned) noexcept
    Py_ssize_t references "Py_REFCNT"(PyObject* borrowed) noexcept

cdef bint is_same_context(object context, object other) except -1:
    # Return whether the same objects are set in both contexts. Compare by identity: `==` would run
    # the `__eq__` of the objects, and would mix up equal objects of two users.
    if variables(<PyObject*>context) == variables(<PyObject*>other):
        return True             # a copy shares the table of variables until one of them is set
    if len(context) != len(other):
        return False
    for variable, value in other.items():
        if context.get(variable, NOT_SET) is not value:
            return False
    return True


cdef object NOT_SET = object()
cdef object current_task = asyncio.current_task
cdef object enter_task = asyncio.tasks._enter_task      # public for those that make tasks
cdef object leave_task = asyncio.tasks._leave_task

cdef enum:
    MAX_IDLE = 64           # tasks that are kept for later; 2 KiB each
    # References to a task: those of its Worker and of the object that wakes it; and while it runs,
    # those of asyncio's current task and of Workers.tasks.
    IDLE_REFS = 2
    BUSY_REFS = 4


class WorkerTask(Task):
    """A task that notes calls whose effect outlives a coroutine."""

    __slots__ = ("_touch",)

    def __init__(self, Worker worker, **options):
        Task.__setattr__(self, "_touch", worker.touch)
        Task.__init__(self, work(worker), **options)
        # An idle task may be freed with a channel that was dropped; nothing is lost.
        Task.__setattr__(self, "_log_destroy_pending", False)

    def __setattr__(self, name, value):
        self._touch()
        Task.__setattr__(self, name, value)

    def add_done_callback(self, callback, *, context=None):
        self._touch()
        Task.add_done_callback(self, callback, context=context)

    def cancel(self, msg=None):
        self._touch()
        return Task.cancel(self, msg)

    def set_name(self, value):
        self._touch()
        Task.set_name(self, value)


@cython.final
cdef class Outcome:
    """The type of WAITS and NOT_BEGUN."""

    cdef str name

    def __cinit__(self, str name):
        self.name = name

    def __repr__(self):
        return self.name


# What `begin` returns instead of a result.
WAITS = Outcome("WAITS")              # the coroutine goes on in a task
NOT_BEGUN = Outcome("NOT_BEGUN")      # no step was taken: start a task


@cython.final
cdef class Worker:
    """An idle task, and what the task awaits meanwhile: for asyncio, this is a future."""

    # -- the methods of a future

    def get_loop(self):
        return self.pool.loop

    def add_done_callback(self, callback, *, context=None):
        self.wakeup = callback
        self.pool.tasks.discard(self.task)
        self.pool.park(self)
        if self.pool.hired is self.task:
            self.pool.hired = None

    def result(self):
        if self.is_cancelled:
            raise CancelledError
        return None

    def cancel(self, msg=None):
        """End the task if it is idle; otherwise the task cancels the coroutine that it runs."""
        if self is self.pool.first:
            self.pool.first = None
        elif self in self.pool.idle:
            self.pool.idle.remove(self)
        else:
            return False
        self.is_cancelled = True
        self.dismiss()
        return True

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        self.is_awaited = not self.is_awaited
        if self.is_awaited:
            self._asyncio_future_blocking = True
            return self
        raise StopIteration

    # -- the methods for the pool

    def touch(self):
        """Note a call whose effect outlives the coroutine."""
        self.is_touched = True

    cdef bint is_as_new(self) except -1:
        # Return whether nothing is left of the coroutine that the task ran.
        return (
            not self.is_touched
            and is_same_context(self.context, self.pool.context)
            and weak_references(<PyObject*>self.task) == self.weakrefs
        )

    cdef int dismiss(self) except -1:
        # End the task soon; code that waits for the task then goes on.
        wakeup, self.wakeup = self.wakeup, None
        self.pool.tasks.add(self.task)
        self.pool.loop.call_soon(wakeup, self, context=self.context)
        return 0


async def work(Worker worker):
    """The coroutine of a worker's task."""
    try:
        await do_jobs(worker)
    finally:
        worker.pool.tasks.discard(worker.task)
        worker.task = None


async def do_jobs(Worker worker):
    """Do one job after the other, until there is none."""
    while not worker.pool.is_stopped:
        try:
            await worker
        except CancelledError:
            job, worker.job = worker.job, None
            worker.is_awaited = False
            if job is None:
                return
            (<Begun>job[0]).is_cancelled = True
        else:
            job, worker.job = worker.job, None
            if job is None:
                return
        await job[1]
        job = None
        if (
            worker.pool.is_stopped or len(worker.pool.idle) >= MAX_IDLE
            or references(<PyObject*>worker.task) > BUSY_REFS or not worker.is_as_new()
        ):
            return


@cython.final
cdef class Begun:
    """The rest of a coroutine as an awaitable. It first yields what the first step yielded."""

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        """Resume the coroutine."""
        if self.has_yielded:
            return self.coro.send(value)
        self.has_yielded = True
        waits_for, self.waits_for = self.waits_for, None
        if not self.is_cancelled:
            return waits_for
        if hasattr(waits_for, "cancel"):
            waits_for.cancel()
        return self.coro.throw(CancelledError())

    def throw(self, *error):
        """Raise the exception where the coroutine waits."""
        self.has_yielded = True
        return self.coro.throw(*error)

    def close(self):
        """End the coroutine."""
        self.coro.close()


@cython.final
cdef class Workers:
    """The idle tasks of a loop."""

    def __cinit__(self, loop):
        self.loop = loop
        self.context = copy_context()
        self.idle = []
        self.tasks = set()
        self.hire()

    cdef int hire(self) except -1:
        # Start a task, so that there will be an idle worker.
        cdef Worker worker
        if self.hired is not None:
            if not self.hired.done():
                return 0
            self.tasks.discard(self.hired)      # cancelled before its first step
        worker = Worker.__new__(Worker)
        worker.pool = self
        worker.context = self.context.copy()
        task = WorkerTask(worker, loop=self.loop, context=worker.context)
        worker.task = task
        worker.weakrefs = weak_references(<PyObject*>task)
        self.tasks.add(task)
        self.hired = task
        return 0

    def begin(self, coro, go_on, arg):
        """Take the first step of a coroutine, and return its result if that was the last.

        If the coroutine waits, `go_on(arg, rest)` makes a coroutine that awaits the rest, in the
        task of the first step; then return WAITS. Return NOT_BEGUN if no step was taken. Raises
        what the step raises.
        """
        cdef PyObject* result = NULL
        cdef PySendResult status = PYGEN_ERROR
        cdef Worker worker
        cdef Begun begun
        if not PyCoro_CheckExact(coro) or self.is_stopped:
            return NOT_BEGUN
        worker = self.take()
        if worker is None:
            self.hire()
            return NOT_BEGUN
        # In an ASGI application there is a current task; put it aside.
        outer = current_task(self.loop) if self.is_within else None
        if outer is not None:
            leave_task(self.loop, outer)
        try:
            try:
                enter_task(self.loop, worker.task)
            except RuntimeError:
                self.park(worker)
                if self.is_within:
                    return NOT_BEGUN    # the loop does not run
                self.is_within = True
                return self.begin(coro, go_on, arg)
            PyContext_Enter(worker.context)
            try:
                status = PyIter_Send(coro, None, &result)
            finally:
                PyContext_Exit(worker.context)
                leave_task(self.loop, worker.task)
                if status != PYGEN_NEXT:
                    self.put_back(worker)
            given = <object>result
            Py_DECREF(result)
            if status == PYGEN_RETURN:
                return given
            begun = Begun.__new__(Begun)
            begun.coro = coro
            begun.waits_for = given
            worker.job = begun, go_on(arg, begun)
            self.tasks.add(worker.task)
            wakeup, worker.wakeup = worker.wakeup, None
            worker.context.run(wakeup, worker)
            return WAITS
        finally:
            if outer is not None:
                enter_task(self.loop, outer)

    cdef Worker take(self):
        # Return an idle worker, or None.
        cdef Worker worker
        while True:
            worker = self._next()
            if worker is None or references(<PyObject*>worker.task) <= IDLE_REFS:
                return worker
            worker.dismiss()

    cdef Worker _next(self):
        worker, self.first = self.first, None
        if worker is None and self.idle:
            worker = self.idle.pop()
        return worker

    cdef int park(self, Worker worker) except -1:
        if self.first is None:
            self.first = worker
        else:
            self.idle.append(worker)
        return 0

    cdef int put_back(self, Worker worker) except -1:
        if references(<PyObject*>worker.task) <= IDLE_REFS and worker.is_as_new():
            self.park(worker)
        else:
            worker.dismiss()
        return 0

    def stop(self):
        """Begin no more coroutines, and end the idle tasks. `tasks` are those still at work."""
        cdef Worker worker
        self.is_stopped = True
        while True:
            worker = self._next()
            if worker is None:
                break
            worker.dismiss()


# -- generators --

def start(steps):
    """Run a generator to its first yield or to its end.

    Return what it yielded or returned, and whether that was the end. Raises what the steps raise.
    No exception marks the end, as `next` raises one.
    """
    cdef PyObject* found = NULL
    cdef PySendResult how = PyIter_Send(steps, None, &found)
    try:
        return <object>found, how == PYGEN_RETURN
    finally:
        Py_XDECREF(found)
