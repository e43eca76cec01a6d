# Outboxes: the packets that wait for each session, and how they go out.
#
# An outbox is one pointer to a node; the path from the root to the node holds the entries that
# wait, first to last. All outboxes at a node that get the same event move to the same child. So
# equal histories share one node, and the batch with its frame is made once, at the node.
#
#     root --e1--> n1 --e2--> n2          alice, bob: n2        carol (a reply between): n3
#                   \--reply--> r --e2--> n3
#
# A node owns its parent, and only remembers its child: it is freed with the last outbox at or
# behind it.
#
# There are two sums. `nbytes` is the size of one outbox, the whole of its path, for the limits of a
# session. `kept` is the memory of all paths together: a node counts once, however many outboxes are
# at or behind it, and so does an event in several nodes. `kept` includes only outboxes that cannot
# be written to now, so an outbox that is written at the end of the turn costs no counting. No user,
# no policy, no loop.

from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint8_t
from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.events.packet cimport Packet, Packer
from chansock._fast.io.timers cimport TimerQueue, Entry
from chansock._fast.io.transport cimport Transport


cdef enum:
    # Bytes that count besides those of the event or reply, as the allocators round them:
    AROUND_NODE = 96                    # a node
    AROUND_BOX = 16                     # an outbox in the list of those for which something waits
    # a node, and the objects that hold the bytes of its event or reply
    AROUND_EVENT = 192
    AROUND_REPLY = 224


cdef class Fragment:
    # One encoded event on its way to any number of clients.
    cdef readonly bytes data
    cdef readonly object key            # of `latest`; None: no key
    cdef uint8_t is_exact               # data has memory of exactly its size
    cdef readonly uint8_t is_kept       # a log stores it
    cdef int holders                    # nodes counted in fanout.kept that it is the entry of
    cdef public int64_t seq             # its place among all events; 0: it has none


cdef class Node:
    # the entries that wait: the path from the root to here
    cdef Node parent
    cdef object entry                   # Fragment, or Packet (a reply); None at the root
    cdef Py_ssize_t nbytes              # of the path, with the objects around each entry
    cdef int events
    cdef int replies
    # outboxes that are counted up to this node, and children that are counted; 0: none waits, and
    # the node is not in fanout.kept
    cdef int holders
    cdef uint8_t has_keys
    cdef uint8_t replaced               # an older event with the same key was taken out
    # the newest child, and the node whose newest child this is: both borrowed, each cleared when
    # the other is freed
    cdef PyObject* follower
    cdef PyObject* precursor
    # the packets of the path, made when first written: for plain outboxes, and for those whose
    # clients resume
    cdef list packed
    cdef list positioned


cdef class Outbox:
    # the packets that wait
    cdef Node tail
    cdef Node counted                   # the path up to here is in fanout.kept; None: nothing is
    cdef Py_ssize_t behind              # bytes in the transport, counted in fanout.taken
    # where they go
    cdef readonly Fanout fanout
    cdef Transport transport            # None: away
    cdef uint8_t is_blocked             # the transport has a backlog: wait for drained()
    cdef uint8_t is_dirty               # is in a list of the fanout
    cdef public uint8_t has_positions   # its client resumes: each batch ends with a position
    # Of a client that resumes: the newest event that is no longer in the outbox. Later ones wait in
    # it. UNKNOWN: some of them may be elsewhere.
    cdef public int64_t left
    cdef int index                      # in fanout.boxes; -1: of one displaced socket only
    # its place in fanout.waiters: the list (0: none), and the index in it
    cdef uint8_t magnitude
    cdef int place

    cdef int append(self, Fragment fragment) except -1
    cdef int leave(self, Node node) noexcept
    cdef int put_reply(self, WriteBuffer out, bytes whole) except -1
    cdef int put_packet(self, Packet packet) except -1
    cdef int flush(self) except -1
    cdef int mark(self) except -1
    cdef int hold(self) except -1
    cdef int release(self) except -1
    cdef int count(self, Node tail) except -1
    cdef int rank(self, Py_ssize_t size) except -1
    cdef int overflow(self) except -1
    # called by the fanout; a session overrides them
    cpdef answered(self)                # the poll took a batch and is gone
    cpdef was_cut(self, str reason, Py_ssize_t events)


cdef class Fanout:
    # from the caller
    cdef object clock
    cdef readonly TimerQueue timers
    cdef Packer packer
    cdef Py_ssize_t max_bytes
    cdef Py_ssize_t max_events
    cdef Py_ssize_t max_total
    cdef double delay_ws
    cdef double delay_ajax
    cdef public Packet ping             # of the keep-alive: no reply where it is lost
    cdef public object position         # call(seq): the event `[:chsk/pos ...]` as bytes
    # all outboxes
    cdef Node root
    cdef list boxes                     # the outbox of every session
    # Outboxes with counted bytes, of displaced sockets too, by the number of bits of their nbytes:
    # so large ones are found without visiting others.
    cdef list waiters
    cdef dict closing                   # transports that were cut: bytes that they held then
    cdef bint is_cutting
    # outboxes to write: at the end of the turn, and after a delay
    cdef list dirty                     # not empty: a flush is to come
    cdef Py_ssize_t flushed             # of these, at the front
    cdef list packed                    # nodes at which outboxes wait, and that have packets
    cdef list late_ws
    cdef list late_ajax
    # counted
    # bytes that wait in outboxes for a transport, and in transports for a peer
    cdef Py_ssize_t kept
    cdef Py_ssize_t taken
    cdef public Py_ssize_t sent
    cdef readonly Py_ssize_t written
    cdef readonly Py_ssize_t replaced
    cdef readonly dict lost             # events, by reason
    cdef public Py_ssize_t reply_lost

    cdef Node grow(self, Node node, Fragment fragment)
    cdef Node add(self, Node node, object entry)
    cdef list entries(self, Node node)
    cdef Node joined(self, Node node, Node behind)
    cdef Py_ssize_t replies(self, Node node) except -1
    cdef Node part(self, Node node, bint of_events)
    cdef list packets(self, Node node, bint has_positions=*)
    cdef Packet batch(self, list run, int64_t seq)
    cdef bint is_too_much(self, Node node, Py_ssize_t behind) noexcept
    cdef int keep(self, Node node) except -1
    cdef int let_go(self, Node node) except -1
    cdef int cut(self, Outbox box, str reason) except -1
    cdef int make_room(self) except -1
    cdef Py_ssize_t most_kept(self) noexcept
    cdef int cut_largest(self) except -1
    cdef int weigh(
        self, Node node, object boxes, int number, int k, list weighed, int* steps
    ) except -1
    cdef int cut_all(self, object boxes) except -1
    cpdef broadcast(self, Fragment fragment)
    cpdef send(self, Outbox box, Fragment fragment)
    cpdef ended(self, Transport transport)


cdef class EventLog:
    # The kept events of one target, first to last.
    cdef list fragments                 # None: it is empty
    cdef Py_ssize_t first               # those before it are gone
    cdef Py_ssize_t nbytes
    cdef readonly int64_t missing       # the newest event that is not here any more, by its seq
    cdef uint8_t is_touched             # appended to since the last search for one to empty


cdef class EventLogs:
    # from the caller
    cdef public object clock
    cdef Py_ssize_t keep_events
    cdef readonly double keep_seconds
    cdef readonly Py_ssize_t keep_bytes
    cdef Py_ssize_t max_bytes           # of one log
    # all logs
    cdef public int64_t seq             # of the newest event, kept or not
    cdef readonly Py_ssize_t nbytes
    cdef dict filled                    # logs with events, about in the order of their last use
    cdef object marks                   # deque of (time, the newest event then)
    cdef double marked                  # when the newest mark was made
    cdef double appended                # when the newest event was kept
    cdef int64_t expired                # events up to here are too old to be kept

    cdef int drop_first(self, EventLog log) except -1
    cdef double mark(self, int64_t seq) except -1
    cdef int expire(self, EventLog log) except -1
    cdef int make_room(self) except -1
    cpdef append(self, EventLog log, Fragment fragment)


cdef class Item:
    # Events for one target, on their way to an engine.
    cdef readonly str key
    cdef readonly Py_ssize_t count
    cdef readonly bint is_kept
    cdef readonly bytes envelope


cdef class Turn:
    cdef uint8_t version
    cdef bytes names                    # of each envelope
    cdef list items                     # that are whole
    # the events behind them, for one target and with the same options
    cdef WriteBuffer events             # their bytes in an envelope
    cdef Py_ssize_t count
    cdef str key
    cdef str only
    cdef uint8_t is_kept
    cdef uint8_t flush
    cdef readonly Py_ssize_t nbytes     # of all events, with the objects around them
    cdef WriteBuffer whole              # memory to put an envelope together

    cdef int finish(self) except -1
