# From a packet to an event to a handler to a reply, once per event.
#
#   take -> unpack -> event -> route -> handler -> reply -> outbox
#
# A client's events are handled one at a time. While a handler waits, the packets behind it wait in
# the inbox, as bytes. One task (drain) handles them: a packet is decoded when its turn comes.
#
#   take --room?--> put_off -> queue -> decode -> event ...    behind a handler that waits
#      \--no--> the edge keeps it, and reads no more
#
# An inbox counts packets by their bytes, and the value of an event whose handler waits by its
# weight. Past max_bytes no more is taken or decoded, but one value is always decoded if no other is
# held. So a session can hold at most max_bytes and one value. No users, no hooks, no presence here.

from libc.stdint cimport int32_t, int64_t, uint8_t
from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.events.fanout cimport Fanout, Outbox
from chansock._fast.io.transport cimport Link, Transport
from chansock._fast.io.flag cimport flag
from chansock._fast.events.packet cimport Packet, Packer


cpdef bint is_awaitable(object value) noexcept


cdef class Route:
    # One handler and how it is run.
    cdef readonly object handler
    cdef readonly bint is_parallel


cdef class Replies:
    # The memory that the kept replies of all clients take.
    cdef readonly Py_ssize_t nbytes
    cdef public Py_ssize_t limit


cdef struct Chunk:
    # A piece of memory with replies behind these fields.
    Chunk* next
    int64_t first                       # the number that the others are counted from
    int64_t last                        # the highest one
    Py_ssize_t used                     # bytes of replies
    Py_ssize_t room                     # bytes for replies


cdef class Numbers:
    # The numbers of one client's events, for the life of its client-id, and the replies to them.
    cdef public int64_t received        # the newest event that was taken
    cdef public int64_t since           # what was sent before this place, nobody knows: see resume
    cdef readonly int64_t redelivered   # events up to here may have been handled before
    cdef int64_t told                   # the newest event that was taken when it was acknowledged
    cdef public int64_t acked           # the newest event that was acknowledged
    cdef Py_ssize_t told_bytes          # bytes that were taken since
    cdef int64_t current                # the event whose handler the next ones wait for; 0: none
    cdef dict apart                     # events that are handled beside others, in order; or None
    cdef public int64_t attempt         # of its newest handshake
    cdef public object session          # the present one of the client; None: it has none
    cdef dict waiters                   # POSTs that were sent again: number -> call(packet)
    # The replies that may have been lost
    cdef Replies all_replies
    cdef Chunk* oldest
    cdef Chunk* newest
    cdef Py_ssize_t room                # bytes of all chunks

    cdef int64_t handled(self, Inbox inbox) except -1
    cdef int keep_reply(self, int64_t number, const uint8_t* data, Py_ssize_t size) except -1
    cdef Chunk* new_chunk(self, int64_t number, Py_ssize_t size) except? NULL
    cdef int drop_oldest(self) except -1
    cdef bint answer_waiter(self, int64_t number, bytes packet) except -1


cdef class Inbox:
    # A session's events that no handler has finished.
    cdef readonly int events            # that wait or are handled
    cdef readonly int unfinished        # events whose handlers are still to return
    cdef readonly Py_ssize_t nbytes     # packets as bytes, values by their weight
    cdef object queue                   # deque of EventMsg behind the handler that waits; or None
    cdef dict stalled                   # calls to make once there is room, in order; or None
    cdef flag is_running                # a handler waits
    cdef flag is_full                   # the queue waits for room to decode its next packet
    cdef flag is_resuming
    cdef flag is_due                    # is in Dispatch.due
    cdef public Py_ssize_t waiting      # bytes of POSTs that wait outside, for order or room
    cdef list settling                  # calls to make once there are none; or None
    cdef public Numbers numbers         # of a client that resumes; or None
    cdef object __weakref__             # for inboxes that belong to no session


cdef class Connection(Link):
    # One live socket or poll of a session, or one POST (Endpoint.open and post return it).
    cdef Dispatch dispatch
    cdef readonly Transport transport
    cdef public Outbox outbox           # where its replies go; None: closed, or a POST
    cdef readonly Inbox inbox
    cdef readonly object session        # of the hub; None: a POST without one
    cdef readonly object request
    cdef readonly object uid
    cdef readonly str client_id
    cdef public object timer            # its entry in the timer queue
    cdef readonly flag is_post
    cdef readonly flag is_answered      # a POST: its response is written
    cdef public flag is_ending          # its listener stops: nothing more is taken
    cdef uint8_t has_complained         # bits: which of its faults are logged already
    cdef EventMsg event                 # a POST: the event that its response waits for
    cdef readonly bytes packet          # a POST's, while it waits for its turn or for room; or None
    cdef Py_ssize_t needs               # bytes of room that the value of a waiting POST takes
    cdef public int64_t number          # a POST's among the events of its client; 0: it has none

    # take and cork are Link's. Junk counts as taken: a socket's take raises no PacketError.
    cdef int take_behind(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1
    cdef int no_room(self) except -1
    cdef int count_bytes(self, Numbers numbers, Py_ssize_t size) except -1
    cdef int acknowledge(self) except -1
    cdef int64_t count_event(self) except -1
    cdef int refuse_packet(self, error) except -1
    cdef int refuse_counted_packet(self, error) except -1
    # The packet is `whole`, or if that is None what `out` holds; `number` is that of its event.
    cdef bint send_reply(self, WriteBuffer out, bytes whole, int64_t number) except -1
    cdef bint answer_post(self, bytes whole, int64_t number) except -1
    cdef int keep_reply(self, WriteBuffer out, bytes whole, int64_t number) except -1
    cdef bint send_late_reply(self, bytes whole, int64_t number) except -1


cdef class EventMsg:
    cdef readonly object id             # Keyword
    cdef public object data             # as decoded, until it is converted for its handler
    cdef Connection connection
    cdef object cb_id                   # None: no reply is wanted (but a POST's is True)
    cdef Route route
    cdef Inbox inbox                    # whose room it takes
    cdef bint holds_room                # it still does
    cdef Py_ssize_t size                # how much of it
    cdef bint is_weighed                # size is what its value holds
    cdef bint is_unfinished             # counted in inbox.unfinished
    cdef bytes packet                   # not decoded yet; None: it is
    cdef bint is_text
    cdef bint is_read                   # an iterator passes it on
    cdef bint is_replied
    cdef bint is_later                  # the handler returned LATER
    cdef int64_t number                 # among the events of its client; 0: it has none
    cdef bint is_apart                  # in numbers.apart
    cdef int64_t turn                   # of the cluster, in which its handler began

    cpdef reply(self, value=*)
    cpdef bint _send(self, WriteBuffer out, bytes whole) except -1
    cpdef bint _send_on(self, WriteBuffer out, bytes whole) except -1


cdef class Dispatch:
    # from the caller
    cdef object clock
    cdef object begin                   # the clock's
    cdef Fanout fanout
    cdef Packer packer
    cdef readonly object sender         # the ChannelSocket, as msg.chsk
    cdef public object cluster          # with an engine for several processes; else None
    cdef dict routes                    # event id -> Route; no id in chsk/
    cdef dict own_routes                # the same for chsk/*
    cdef object unclaimed               # call(msg) -> bool: an iterator will take it
    cdef object failed                  # call(msg, exception) -> the reply, or None
    cdef Py_ssize_t max_events
    cdef Py_ssize_t max_bytes
    cdef unsigned long thread           # the loop's
    cdef public bint is_stopping        # nothing more is taken
    cdef readonly bint is_stopped       # and no replies are sent any more
    cdef Py_ssize_t unfinished          # of all inboxes
    cdef list settling                  # calls to make once there are none; or None
    # Packets that wait are decoded for a few milliseconds in each turn of the loop
    cdef int64_t spent                  # milliseconds since the last pause
    cdef readonly bint is_spent         # no more of them in this turn
    cdef object due                     # deque of inboxes that go on in later turns, and contexts
    cdef set queued                     # all inboxes that have a queue
    cdef object ws_ping                 # the grammar's constants
    cdef object ws_pong
    cdef object refused
    cdef object pong
    cdef object error
    cdef object why
    cdef list unclaimed_error
    cdef object reply_id
    cdef object ack_id
    cdef readonly set posts             # POSTs whose response is still to come
    cdef readonly set strays            # those of them that have no session
    cdef WriteBuffer written            # a reply on its way, if it is short
    # counted
    cdef readonly Py_ssize_t bad_packet
    cdef readonly Py_ssize_t bad_event
    cdef readonly Py_ssize_t forged
    cdef public Py_ssize_t unclaimed_count
    cdef readonly Py_ssize_t unhandled

    cdef EventMsg event(
        self, Connection connection, int length, object event_id, object data, object cb_id,
        EventMsg msg
    )
    cdef bint can_write(self, object cb_id) except -1
    cdef int lose_reply(self, Connection connection, object cb_id) except -1
    cdef int acknowledge(self, Inbox inbox) except -1
    cdef int set_apart(self, EventMsg msg) except -1
    cdef int enter(self, EventMsg msg, Inbox inbox) except -1
    cdef int admit(self, EventMsg msg, Inbox inbox) except -1
    cdef int queue(self, EventMsg msg, Inbox inbox) except -1
    cdef int put_off(
        self, Connection connection, const uint8_t* data, Py_ssize_t size, bint is_text
    ) except -1
    cdef EventMsg next_event(self, Inbox inbox)
    cdef bint decode(self, EventMsg msg) except -1
    cdef Py_ssize_t weigh(self, object data, object cb_id) except -1
    cdef int hold(self, EventMsg msg) except -1
    cdef int run(self, EventMsg msg) except -1
    cdef object step(self, EventMsg msg)
    cdef int _begin(self, EventMsg msg, object awaitable, object go_on) except -1
    cdef int work_off(self, Inbox inbox) except -1
    cdef int resume_soon(self, Inbox inbox) except -1
    cdef int took_since(self, int64_t since) except -1
    cdef int wait_for_turn(self, Inbox inbox) except -1
    cdef int finish(self, EventMsg msg, object result) except -1
    cdef int fail(self, EventMsg msg, object error) except -1
    cdef int done(self, EventMsg msg) except -1
    cdef int free(self, EventMsg msg) except -1
    cdef int ended(self, EventMsg msg) except -1
    cdef int finished(self, EventMsg msg) except -1
    cdef int settled(self, Inbox inbox) except -1
