# cython: language_level=3
"""Outboxes: the packets that wait for each session, and one flush of them in each turn.

The header (fanout.pxd) draws the tree of shared nodes. Everything here is bytes that were encoded
elsewhere. No user, no policy, no loop. Fanout counts events so that sent = written + replaced +
lost + those that still wait. The file is past 600 lines because appending, writing, and cutting
all keep the same counts of the same tree. Its parts: `logs` has the events that are kept for
clients that resume, `turn` what a node sends to the other processes of its channel, and `envelope`
what comes from them.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_REFCNT
from cpython.unicode cimport PyUnicode_DecodeUTF8
from libc.stdint cimport int64_t, uint8_t
from chansock._fast.io.buffer cimport WriteBuffer, exact
from chansock._fast.events.packet cimport Packet, Packer
from chansock._fast.io.timers cimport TimerQueue

import logging
from collections import deque

from chansock._fast.edn.reader import loads
from chansock._fast.edn.writer import dumps

log = logging.getLogger("chansock.fanout")

cdef enum:
    SLICE = 32              # outboxes written before others have their turn: some 0.1 ms
    MAX_STEPS = 1 << 15     # nodes that a search for outboxes to cut visits in vain: below 5 ms
    MAX_PACKED = 8          # nodes that keep packets from one slice to the next


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Fragment:
    """One encoded event; `key` is that of `latest`, or None. A log stores it if `is_kept`."""

    def __cinit__(self, bytes data not None, key=None, bint is_kept=True):
        self.data = data
        self.key = key
        self.is_kept = is_kept

    @property
    def nbytes(self):
        """The bytes that it counts while it waits: its own, and the objects around them."""
        return PyBytes_GET_SIZE(self.data) + AROUND_EVENT


cdef int64_t UNKNOWN = (<int64_t>1) << 62


cdef inline Py_ssize_t _event_bytes(Fragment fragment) noexcept:
    # The memory of an event without its nodes.
    return PyBytes_GET_SIZE(fragment.data) + (AROUND_EVENT - AROUND_NODE)


cdef Py_ssize_t _freed(Node node, int count, int* steps) noexcept:
    # Estimate the bytes that cutting each of the `count` outboxes at a node frees. Nodes that only
    # these outboxes hold count in full, but an event that other nodes hold, too, counts in part.
    # Nodes that others hold, too, count in part. After `steps` nodes the estimate is the size of
    # the whole path.
    cdef Fragment fragment
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t most = node.nbytes // count
    cdef int holders = count
    if node.holders > count:
        return node.nbytes // node.holders
    while node.parent is not None and node.holders == holders:
        steps[0] -= 1
        if steps[0] < 0:
            return most
        if type(node.entry) is Fragment:
            fragment = <Fragment>node.entry
            size += AROUND_NODE + _event_bytes(fragment) // max(1, fragment.holders)
        else:
            size += (<Packet>node.entry).size + AROUND_REPLY
        node = node.parent
        holders = 1
    if node.parent is not None:
        size += node.nbytes // max(1, node.holders)
    return size // count


cdef int _magnitude(Py_ssize_t size) noexcept:
    # Return how many bits a size has.
    cdef int bits = 0
    while size > 0:
        size >>= 1
        bits += 1
    return bits


cdef int _put(list lists, int k, object item) except -1:
    if lists[k] is None:
        lists[k] = []
    (<list>lists[k]).append(item)
    return 0


# No cycles: a node owns its parent and bytes. Without the collector's header a waiting event costs
# 16 bytes less, and full collections need not visit it.
@cython.final
@cython.no_gc
@cython.freelist(256)
cdef class Node:
    def __dealloc__(self):
        cdef Node at = self.parent
        cdef Node before
        if self.follower != NULL:
            (<Node>self.follower).precursor = NULL
        if self.precursor != NULL:
            (<Node>self.precursor).follower = NULL
        self.parent = None
        # Free a long path in a loop, not by recursion.
        while at is not None and Py_REFCNT(at) == 1:
            before = at.parent
            at.parent = None
            at = before
            before = None       # else the next one would be freed by recursion


cdef class Outbox:
    """The packets that wait for one session, or the replies for one displaced socket."""

    def __cinit__(self, Fanout fanout not None, *args, **kwargs):
        self.fanout = fanout
        self.tail = fanout.root
        self.index = -1
        self.left = UNKNOWN

    # -- what goes in

    cdef int append(self, Fragment fragment) except -1:
        cdef Node at = self.tail
        cdef Node node
        if at.follower != NULL and (<Node>at.follower).entry is fragment:
            node = <Node>at.follower
        else:
            node = self.fanout.grow(at, fragment)
        self.tail = node
        self.fanout.replaced += node.replaced
        if self.fanout.is_too_much(node, 0):
            self.overflow()
        elif self.transport is None or self.is_blocked:
            self.hold()
        elif not self.is_dirty:
            self.mark()
        return 0

    cdef int put_reply(self, WriteBuffer out, bytes whole) except -1:
        cdef bint is_binary = self.fanout.packer.binary
        cdef const uint8_t* data = out.data
        cdef Py_ssize_t size = out.size
        if whole is not None:
            data, size = <const uint8_t*>whole, len(whole)
        # Nothing waits before it, so a reply made during a read needs no node in the tree.
        if (
            self.tail is self.fanout.root and self.transport is not None
            and not self.is_blocked
            and self.transport.gather_reply(data, size, is_binary)
        ):
            return 0
        return self.put_packet(Packet(out.take() if whole is None else whole, is_binary))

    cdef int put_packet(self, Packet packet) except -1:
        # It belongs to one client, so no other outbox needs this node.
        self.tail = self.fanout.add(self.tail, packet)
        if self.fanout.is_too_much(self.tail, 0):
            self.overflow()
        elif self.transport is None or self.is_blocked:
            self.hold()
        elif not self.is_dirty:
            self.mark()
        return 0

    cdef int mark(self) except -1:
        # Schedule a flush.
        cdef Fanout fanout = self.fanout
        cdef double delay
        cdef list late
        if self.transport.streams:
            delay, late = fanout.delay_ws, fanout.late_ws
        else:
            delay, late = fanout.delay_ajax, fanout.late_ajax
        self.is_dirty = True
        if delay <= 0:
            if not fanout.dirty:
                fanout.clock.soon(fanout.flush_turn)
            fanout.dirty.append(self)
        else:
            if not late:
                fanout.timers.schedule(delay, fanout.flush_late, late)
            late.append(self)
        return 0

    cdef int hold(self) except -1:
        # Count the bytes that wait, here and in the transport: it cannot be written to now.
        cdef Fanout fanout = self.fanout
        cdef Py_ssize_t behind = 0 if self.transport is None else self.transport.backlog()
        # A transport keeps the whole of a packet that is sent in part.
        fanout.taken -= self.behind
        self.behind = 0 if self.transport is None else max(behind, self.behind)
        fanout.taken += self.behind
        self.count(self.tail)
        if fanout.is_too_much(self.tail, behind):
            self.overflow()
        elif fanout.kept + fanout.taken > fanout.max_total:
            fanout.make_room()
        return 0

    cdef int release(self) except -1:
        self.count(self.fanout.root)
        self.fanout.taken -= self.behind
        self.behind = 0
        return 0

    cdef int count(self, Node tail) except -1:
        # Count the path up to `tail` in fanout.kept, in place of the one that was counted.
        cdef Fanout fanout
        cdef Node before
        if tail is self.fanout.root:
            tail = None
        if tail is self.counted:
            return 0
        fanout, before = self.fanout, self.counted
        if tail is not None:
            fanout.keep(tail)
        if before is not None:
            fanout.let_go(before)
        self.counted = tail
        self.rank(0 if tail is None else tail.nbytes)
        return 0

    cdef int rank(self, Py_ssize_t size) except -1:
        # Move to the list in fanout.waiters for this size; 0: to none.
        cdef Fanout fanout = self.fanout
        cdef int magnitude = self.magnitude
        cdef list waiters
        cdef Outbox last
        if magnitude and size >> (magnitude - 1) == 1:
            return 0
        if magnitude:
            waiters = fanout.waiters[magnitude]
            last = waiters.pop()
            if last is not self:
                waiters[self.place] = last
                last.place = self.place
            fanout.kept -= AROUND_BOX
        self.magnitude = magnitude = _magnitude(size)
        if magnitude:
            waiters = fanout.waiters[magnitude]
            self.place = <int>len(waiters)
            waiters.append(self)
            fanout.kept += AROUND_BOX
        return 0

    cdef int overflow(self) except -1:
        # Too much waits: write it early if possible, else cut the session.
        cdef Py_ssize_t behind
        self.flush()
        behind = 0 if self.transport is None else self.transport.backlog()
        if self.tail is not self.fanout.root and self.fanout.is_too_much(self.tail, behind):
            self.fanout.cut(self, "too_slow")
        return 0

    def put(self, Packet packet not None):
        """Append a packet for this client alone, in its place among the events."""
        self.put_packet(packet)

    # -- what goes out

    cdef int flush(self) except -1:
        cdef Fanout fanout = self.fanout
        cdef Node node = self.tail
        cdef Transport transport = self.transport
        cdef bint is_taken = False
        if node is fanout.root or transport is None or self.is_blocked:
            return 0
        # Empty the outbox before the write, which may call drained() and so this method again.
        self.tail = fanout.root
        try:
            is_taken = transport.write(fanout.packets(node, self.has_positions))
        except Exception:
            fanout.timers.log_limit.exception(log, "write_error transport=%r", transport)
        if not is_taken:
            # The transport is closed: these packets wait for the session's next connection.
            self.tail = fanout.joined(node, self.tail)
            self.transport = None
            self.hold()
            return 0
        self.release()
        if self.has_positions:
            self.leave(node)
        fanout.written += node.events
        if transport.streams:
            self.is_blocked = transport.backlog() > 0
            if self.is_blocked:
                self.hold()
        else:
            self.transport = None
            self.answered()
        return 0

    def flush_now(self):
        """Write the waiting packets at once, if there is a transport."""
        self.flush()

    def attach(self, Transport transport not None, Packet first=None):
        """Write to `transport` from now on: `first` (the handshake), then the waiting packets.

        Returns False if the transport is closed already; nothing was written then.
        """
        cdef Fanout fanout = self.fanout
        cdef Node node = self.tail
        cdef list packets = []
        self.transport = transport
        fanout.taken -= self.behind
        self.behind = 0
        self.is_blocked = transport.backlog() > 0   # a displaced socket may have one
        self.is_dirty = False       # the list that holds it may have another delay
        if first is None:
            self.hold() if self.is_blocked else self.flush()
            return self.transport is not None or self.tail is fanout.root
        packets.append(first)
        if node is not fanout.root:
            packets.extend(fanout.packets(node, self.has_positions))
        self.tail = fanout.root
        if not transport.write(packets):
            self.tail = fanout.joined(node, self.tail)
            self.transport = None
            return False
        self.release()
        if self.has_positions:
            self.leave(node)
        fanout.written += node.events
        self.is_blocked = transport.backlog() > 0
        if self.is_blocked:
            self.hold()
        return True

    cdef int leave(self, Node node) noexcept:
        # Note the newest event of a path that leaves the outbox.
        while node is not self.fanout.root:
            if type(node.entry) is Fragment and (<Fragment>node.entry).seq:
                self.left = max(self.left, (<Fragment>node.entry).seq)
                return 0
            node = node.parent
        return 0

    def detach(self, Outbox heir=None):
        """Write to no transport from now on: new packets wait.

        Replies that were not written belong to the old socket: they move to `heir`, its outbox from
        now on. Without an heir they are lost, unless their client resumes: then they are kept
        elsewhere.
        """
        self.transport = None
        self.is_blocked = False
        if self.tail.replies:
            if heir is None:
                if not self.has_positions:
                    self.fanout.reply_lost += self.fanout.replies(self.tail)
            else:
                heir.tail = self.fanout.part(self.tail, False)
            self.tail = self.fanout.part(self.tail, True)
        self.hold()

    def precede(self, Outbox other not None):
        """Move the packets that wait here to `other`, in front of those that wait there."""
        other.tail = self.fanout.joined(self.tail, other.tail)
        self.tail = self.fanout.root
        self.release()

    def put_first(self, list fragments not None):
        """Put events in front of those that wait: what a client that resumes has missed."""
        cdef Node node = self.fanout.root
        cdef Fragment fragment
        for fragment in fragments:
            node = self.fanout.add(node, fragment)
        self.fanout.sent += len(fragments)
        self.tail = self.fanout.joined(node, self.tail)

    def put_last(self, list fragments not None):
        """Put events behind those that wait, whatever waits: a handshake writes them at once."""
        cdef Fragment fragment
        for fragment in fragments:
            self.tail = self.fanout.add(self.tail, fragment)
        self.fanout.sent += len(fragments)

    @property
    def first_seq(self):
        """The place of the first event that waits, among all events; 0: none waits that has one."""
        cdef int64_t first = 0
        cdef Node node = self.tail
        while node is not self.fanout.root:
            if type(node.entry) is Fragment and (<Fragment>node.entry).seq:
                first = (<Fragment>node.entry).seq
            node = node.parent
        return first

    def waiting_fragments(self):
        """Return the events that wait, in order."""
        return [each for each in self.fanout.entries(self.tail) if type(each) is Fragment]

    def drained(self):
        """Go on writing: the transport has no backlog any more."""
        self.is_blocked = False
        if self.transport is not None:
            self.release()
            self.flush()

    def drop(self, str reason not None):
        """Empty the outbox, count its events as lost for `reason`, and return their number."""
        cdef Fanout fanout = self.fanout
        cdef Node node = self.tail
        self.tail = fanout.root
        self.release()
        if self.has_positions:
            self.leave(node)
        if node.events:
            fanout.lost[reason] += node.events
        if node.replies:
            fanout.reply_lost += fanout.replies(node)
        return node.events

    cpdef answered(self):
        """Called when the poll has taken a batch: it is not a connection any more."""

    cpdef was_cut(self, str reason, Py_ssize_t events):
        """Called when too much waited: the outbox was emptied and its socket closed."""

    @property
    def waiting_events(self):
        """The number of events that wait."""
        return self.tail.events

    @property
    def waiting_bytes(self):
        """The bytes that wait, of fragments and replies."""
        return self.tail.nbytes


@cython.final
cdef class Fanout:
    """All outboxes of a channel, and the flush at the end of the turn.

    `lost` counts events by reason: too_slow, budget, grace, stopped, moved, missed.
    """

    def __cinit__(
        self, clock, TimerQueue timers not None, Packer packer not None, *,
        Py_ssize_t max_bytes, Py_ssize_t max_events, Py_ssize_t max_total,
        double delay_ws, double delay_ajax,
    ):
        self.clock = clock
        self.timers = timers
        self.packer = packer
        self.max_bytes = max_bytes
        self.max_events = max_events
        self.max_total = max_total
        self.delay_ws = delay_ws
        self.delay_ajax = delay_ajax
        self.root = Node()
        self.root.holders = 1           # so that counting a path ends here
        self.boxes = []
        self.waiters = [[] for _ in range(8 * sizeof(Py_ssize_t))]
        self.closing = {}
        self.dirty = []
        self.packed = []
        self.late_ws = []
        self.late_ajax = []
        self.lost = {"too_slow": 0, "budget": 0, "grace": 0, "stopped": 0, "moved": 0,
                     "missed": 0}

    # -- who is there

    def join(self, Outbox box not None):
        """Add a session's outbox."""
        box.index = <int>len(self.boxes)
        self.boxes.append(box)

    def leave(self, Outbox box not None):
        """Remove an outbox, in O(1): the order of `boxes` changes."""
        cdef Outbox last = self.boxes.pop()
        if last is not box:
            self.boxes[box.index] = last
            last.index = box.index
        box.index = -1
        box.left = UNKNOWN

    def __len__(self):
        return len(self.boxes)

    def __iter__(self):
        return iter(list(self.boxes))

    # -- what goes in

    cpdef send(self, Outbox box, Fragment fragment):
        """Append an event to one outbox."""
        self.sent += 1
        box.append(fragment)

    cpdef broadcast(self, Fragment fragment):
        """Append an event to every outbox."""
        cdef list boxes = self.boxes
        cdef Py_ssize_t k = 0
        self.sent += len(boxes)
        while k < len(boxes):
            (<Outbox>boxes[k]).append(fragment)
            k += 1

    cdef Node add(self, Node node, object entry):
        cdef Node child = Node.__new__(Node)
        child.parent = node
        child.entry = entry
        child.events = node.events
        child.replies = node.replies
        child.has_keys = node.has_keys
        if type(entry) is Fragment:
            child.events += 1
            child.nbytes = node.nbytes + PyBytes_GET_SIZE((<Fragment>entry).data) + AROUND_EVENT
            child.has_keys |= (<Fragment>entry).key is not None
        else:
            child.replies += 1
            child.nbytes = node.nbytes + (<Packet>entry).size + AROUND_REPLY
        return child

    cdef Node grow(self, Node node, Fragment fragment):
        # Make the node that `fragment` leads to behind `node`, and remember it there.
        cdef Node child = None
        if fragment.key is not None and node.has_keys:
            child = self._replace(node, fragment)
        if child is None:
            child = self.add(node, fragment)
        if node.follower != NULL:
            (<Node>node.follower).precursor = NULL
        node.follower = <PyObject*>child
        child.precursor = <PyObject*>node
        return child

    def _replace(self, Node node not None, Fragment fragment not None):
        # Return the path without the older event of the same key, and with the newer one at its
        # end; None if no such event waits. Nodes in front of the older one stay shared.
        cdef list behind = []
        cdef Node at = node
        while at is not self.root:
            if type(at.entry) is Fragment:
                key = (<Fragment>at.entry).key
                if key is not None and key == fragment.key:
                    break
            behind.append(at.entry)
            at = at.parent
        else:
            return None
        at = at.parent
        for entry in reversed(behind):
            at = self.add(at, entry)
        at = self.add(at, fragment)
        at.replaced = 1
        return at

    cdef list entries(self, Node node):
        # Return the entries of the path, first to last.
        cdef list found = []
        while node is not self.root:
            found.append(node.entry)
            node = node.parent
        found.reverse()
        return found

    cdef Node joined(self, Node node, Node behind):
        # Return one path, then the other.
        for entry in self.entries(behind):
            node = self.add(node, entry)
        return node

    cdef Py_ssize_t replies(self, Node node) except -1:
        # Return the number of replies on the path, without the pings among them.
        return sum(
            type(entry) is Packet and entry is not self.ping for entry in self.entries(node)
        )

    cdef Node part(self, Node node, bint of_events):
        # Return the path with its events alone, or without them.
        cdef Node kept = self.root
        for entry in self.entries(node):
            if (type(entry) is Fragment) == of_events:
                kept = self.add(kept, entry)
        return kept

    # -- what goes out

    cdef list packets(self, Node node, bint has_positions=False):
        # Return the packets of a path: a batch for each run of events, replies between.
        cdef list run, packed
        cdef int64_t seq = 0
        packed = node.positioned if has_positions else node.packed
        if packed is not None:
            return packed
        packed = []
        run = []
        for entry in self.entries(node):
            if type(entry) is Fragment:
                run.append((<Fragment>entry).data)
                seq = max(seq, (<Fragment>entry).seq)
                continue
            if run:
                packed.append(self.batch(run, seq if has_positions else 0))
                run = []
                seq = 0
            packed.append(entry)
        if run:
            packed.append(self.batch(run, seq if has_positions else 0))
        if has_positions:
            node.positioned = packed
        else:
            node.packed = packed
        if node.holders:
            # Another outbox waits at this node, maybe for long. Keep its packets for this flush
            # only: a path that outboxes leave one after the other would hold packets at each node.
            if not self.packed:
                self.clock.soon(self.forget_packets)
            self.packed.append(node)
        return packed

    cdef Packet batch(self, list run, int64_t seq):
        # Return the packet of a run of events; `seq`: with this position at its end, if any.
        if seq:
            run.append(self.position(seq))
        return Packet(self.packer.batch(run), self.packer.binary)

    def forget_packets(self):
        """Drop the packets of nodes at which outboxes wait; called at the end of a turn."""
        cdef Node node
        if self.dirty and len(self.packed) <= MAX_PACKED:
            self.clock.soon(self.forget_packets)    # the next slice of a broadcast needs them
            return
        for node in self.packed:
            node.packed = node.positioned = None
        self.packed.clear()

    def flush_now(self):
        """Write all waiting packets at once."""
        cdef Outbox box
        for box in list(self.boxes):
            box.flush()

    def flush_turn(self):
        """Write the packets of this turn; the clock calls this at the turn's end.

        A broadcast to many is written in slices; other callbacks run between them.
        """
        cdef Outbox box
        cdef Py_ssize_t end = self.flushed + SLICE
        try:
            while self.flushed < len(self.dirty) and self.flushed < end:
                box = self.dirty[self.flushed]
                self.flushed += 1
                box.is_dirty = False
                box.flush()
        finally:
            if 2 * self.flushed >= len(self.dirty):     # not sooner: the rest is moved
                del self.dirty[:self.flushed]
                self.flushed = 0
            if self.dirty:
                self.clock.soon(self.flush_turn)

    def flush_late(self, list late not None):
        """Write the packets of a flush delay; the timer queue calls this."""
        cdef bint is_due = bool(self.dirty)
        self.dirty.extend(late)
        late.clear()
        if not is_due:
            self.flush_turn()

    # -- what is too much

    cdef bint is_too_much(self, Node node, Py_ssize_t behind) noexcept:
        return (
            node.nbytes + behind > self.max_bytes or node.events + node.replies > self.max_events
        )

    cdef int cut(self, Outbox box, str reason) except -1:
        cdef Transport transport = box.transport
        cdef Py_ssize_t events, behind
        box.transport = None
        box.is_blocked = False
        events = box.drop(reason)
        box.was_cut(reason, events)
        if transport is not None:
            behind = transport.backlog()
            if behind:
                self.closing[transport] = behind
                self.taken += behind
            transport.close(1013, "too far behind")     # it may end in this call
        return 0

    cpdef ended(self, Transport transport):
        """Stop counting the bytes of a transport that was closed because too much waited."""
        self.taken -= self.closing.pop(transport, 0) if self.closing else 0

    @property
    def waiting(self):
        """The bytes that wait where nothing can be written now, and those that transports hold."""
        return self.kept + self.taken

    cdef int keep(self, Node node) except -1:
        # Count one more outbox up to `node`.
        cdef Fragment fragment
        while True:
            node.holders += 1
            if node.holders > 1:
                return 0
            node.packed = node.positioned = None    # made for others; see packets()
            if type(node.entry) is Fragment:
                fragment = <Fragment>node.entry
                if not fragment.is_exact:
                    fragment.data = exact(fragment.data)
                    fragment.is_exact = True
                if fragment.holders == 0:
                    self.kept += _event_bytes(fragment)
                fragment.holders += 1
                self.kept += AROUND_NODE
            else:
                (<Packet>node.entry).payload = exact((<Packet>node.entry).payload)
                self.kept += (<Packet>node.entry).size + AROUND_REPLY
            node = node.parent

    cdef int let_go(self, Node node) except -1:
        # Count one outbox less up to `node`.
        cdef Fragment fragment
        while True:
            node.holders -= 1
            if node.holders > 0:
                return 0
            if type(node.entry) is Fragment:
                fragment = <Fragment>node.entry
                fragment.holders -= 1
                if fragment.holders == 0:
                    self.kept -= _event_bytes(fragment)
                self.kept -= AROUND_NODE
            else:
                self.kept -= (<Packet>node.entry).size + AROUND_REPLY
            node = node.parent

    cdef int make_room(self) except -1:
        # Cut outboxes, since more waits than max_total.
        if self.is_cutting:             # a transport that was closed came back here
            return 0
        self.is_cutting = True
        try:
            while self.kept + self.taken > self.max_total and self.cut_largest():
                pass
        finally:
            self.is_cutting = False
        return 0

    cdef Py_ssize_t most_kept(self) noexcept:
        # Return the part of the limit that transports leave, less a part that has to fill up
        # before the next search. Each outbox that the search visits counts, so the search costs
        # less than filling that part. A larger part takes longer to free: 60 ms for an eighth of
        # 256 MiB.
        cdef Py_ssize_t room = max(0, self.max_total - self.taken)
        return room - room // 32

    cdef int cut_largest(self) except -1:
        # Cut outboxes down to `most_kept`, first those that free the most. Return 0 if none is cut.
        # Cutting an outbox frees at most its own bytes. So the search begins at the largest, and
        # puts those that free less aside for later. Outboxes at one node are cut one after the
        # other, since one alone frees next to nothing.
        cdef Py_ssize_t at
        cdef list waiters
        cdef Outbox box
        cdef dict groups                # by their node
        cdef list unweighed = [None] * len(self.waiters)    # of these; by the most that each frees
        cdef list weighed = [None] * len(self.waiters)      # by what each frees
        cdef int steps = MAX_STEPS
        cdef int count = 0
        cdef int k
        for k in range(<int>len(weighed) - 1, -1, -1):
            for found in weighed[k] or ():
                if self.kept <= self.most_kept():
                    return count
                count += self.cut_all(found)
            waiters = self.waiters[k]
            groups = {}
            at = len(waiters)
            while at > 0 and self.kept > self.most_kept():
                # Backwards, since the last outbox moves to the place of one that is cut.
                at = min(at, <Py_ssize_t>len(waiters)) - 1
                if at < 0:
                    break
                box = waiters[at]
                if box.tail.holders > 1:
                    groups.setdefault(box.tail, []).append(box)
                else:
                    count += self.weigh(box.tail, box, 1, k, weighed, &steps)
            for node, found in groups.items():
                _put(unweighed, _magnitude((<Node>node).nbytes // <Py_ssize_t>len(found)), found)
            for found in unweighed[k] or ():
                if self.kept <= self.most_kept():
                    return count
                box = found[0]
                count += self.weigh(box.tail, found, <int>len(found), k, weighed, &steps)
        return count

    cdef int weigh(
        self, Node node, object boxes, int number, int k, list weighed, int* steps
    ) except -1:
        # Cut the outboxes at a node if that frees about as much as k bits say, else put them aside.
        cdef int left = steps[0]
        cdef int gain = _magnitude(_freed(node, number, &left))
        if gain >= k:
            return self.cut_all(boxes)
        steps[0] = left
        _put(weighed, gain, boxes)
        return 0

    cdef int cut_all(self, object boxes) except -1:
        # Cut one outbox, or as many of a list as needed. Return how many were not empty.
        cdef Outbox box
        cdef int count = 0
        for box in boxes if type(boxes) is list else (boxes,):
            if self.kept <= self.most_kept():
                break                           # each frees a little, which may be enough
            if box.tail is not self.root:       # else it is being written, or was just cut
                self.cut(box, "budget")
                count += 1
        return count


include "logs.pxi"
include "envelope.pxi"
include "turn.pxi"
