# The server's side of one TCP connection: HTTP requests first, frames after an upgrade.
#
#   READING --> HELD --answer--> IDLE --> READING ...          HTTP, one request at a time
#                |---101--> FRAMES --close--> CLOSING          WebSocket
#   any --> DRAINING --> GONE                                  sent the last answer; closed
#
#   socket --> consume --> _read_http --> _request_came --> endpoint.admit --> _hold, _upgrade
#                     \--> _read_frames --> link.take                 (C to C)
#   hub --> Protocol.write, Answer.write --> socket.send

from libc.stdint cimport int64_t, uint8_t
from chansock._fast.io.flag cimport flag
from chansock._fast.io.socket cimport Memory, Socket
from chansock._fast.io.timers cimport Entry, TimerQueue
from chansock._fast.io.transport cimport Incoming, Link, Share, Transport
from chansock._fast.http.request cimport Request
from chansock._fast.http.request_reader cimport RequestReader
from chansock._fast.ws.frames cimport Deflate, Frame, Parser


cdef enum:
    # Protocol.state
    IDLE = 0                        # between requests: nothing of the next has come
    READING = 1                     # a head or a body is under way
    HELD = 2                        # a request waits for its answer; what follows waits too
    FRAMES = 3                      # upgraded
    CLOSING = 4                     # our close frame is sent, the peer's is awaited
    DRAINING = 5                    # the last answer is sent; bytes that arrive are dropped
    GONE = 6                        # closed, or about to be


cdef class Service:
    # Its purpose
    cdef readonly object endpoint
    cdef readonly object clock
    cdef object config
    cdef TimerQueue timers
    cdef str path                   # None: every path is the endpoint's
    cdef bytes plain_path           # the same, if nothing in it needs escapes; or None
    cdef object fallback            # call(request) -> Response, None or an awaitable; or None
    cdef object http1               # the module that words answers
    cdef object forwarded           # call(request, protocol): reads proxies' headers; or None
    cdef object extensions          # agree(request) -> Deflate, Response or None; or None
    cdef object answered            # call(request, status) after each answer to `path`; or None
    cdef bint is_single             # each connection has one request
    cdef object gone                # call(protocol) when it has ended; or None
    cdef Memory memory
    cdef double handshake_timeout
    cdef Py_ssize_t max_body
    cdef RequestReader spare        # one whose request is finished; or None
    cdef public bint is_loopback    # listens on a loopback address only
    cdef object expire              # call(protocol): no connection has a bound method of it
    cdef object cut                 # the same: it holds too many unhandled bytes
    cdef Incoming incoming          # what all connections of the channel hold of them
    cdef Py_ssize_t max_sockets     # of the channel; past it no body is read; 0: no limit

    # Connections that have more to handle, each with its context; the first is the next
    cdef object due
    cdef bint is_due                # go_on will be called
    cdef Py_ssize_t spent           # work of all connections since it was

    # All connections, for the stop; each knows its index
    cdef list protocols
    cdef object when_empty          # called once, when the last has gone
    cdef bint is_stopping

    cdef RequestReader reader(self)
    cdef int add(self, Protocol protocol) except -1
    cdef int discard(self, Protocol protocol) except -1
    cdef bint is_full(self) noexcept
    cdef bint is_crowded(self) noexcept
    cdef int enter(self, Protocol protocol) except -1
    cdef Py_ssize_t burst(self, Py_ssize_t size) except -1
    cdef int spend(self, Py_ssize_t work) except -1
    cdef int _begin_turn(self) except -1


cdef class Answer(Transport):
    # One HTTP request's answer, as an ajax Transport. It does nothing once answered.
    cdef Protocol protocol          # None: answered, or its connection is gone
    cdef int code                   # it was ended by close(code); 0: it was not


cdef class Protocol(Socket):
    cdef Service service
    cdef Py_ssize_t index           # in service.protocols
    cdef int state
    cdef int close_code             # of a WebSocket, sent by us, or received; 0: none yet
    cdef flag is_running            # within consume
    cdef flag is_stalled            # set_reading(False), or the dispatch had no room
    cdef flag is_due                # is in service.due
    cdef flag is_put_off            # its time-out was put off once, since the loop was late
    cdef flag is_surplus            # one more than max_sockets: it has one request
    cdef flag is_awaiting           # a hook waits: nothing is read
    cdef flag keeps_alive
    cdef flag is_head               # HEAD: no body in the answer
    cdef flag message_is_text
    cdef Entry entry                # how long this state may last

    # Flow
    cdef bytes message              # a message that had no room; the next bytes are in the store
    cdef Py_ssize_t work            # that this call of _consume did, in bytes of messages
    cdef Py_ssize_t most            # that it may take
    cdef Share share                # of service.incoming; None: nothing is held
    cdef list pending               # a 101, pongs, a close frame: for the next send

    # HTTP
    cdef RequestReader reader       # None: nothing of a request has arrived
    cdef Answer answer              # to the request that waits for its answer
    cdef Py_ssize_t request_size    # bytes of the request that it waits with
    cdef int64_t had_taken          # bytes that the peer had taken when the timer was last set
    cdef Request request            # whose answer carries the channel's fields; or None

    # WebSocket, and a parked poll or POST
    cdef Link link
    cdef Parser parser
    cdef Deflate deflate            # as negotiated, shared by many connections; None: no extension
    cdef bytes window               # bytes that the peer's next message may refer to; or None

    # A Transport
    cdef bytes _frame_of(self, object given)

    # HTTP
    cdef Py_ssize_t _read_http(self, const uint8_t* data, Py_ssize_t size) except -1
    cdef int _request_came(self, RequestReader reader) except -1
    cdef int _answer(self, object response) except -1
    cdef int _refuse(self, int status, str why, str reason=*) except -1
    cdef int _refuse_early(self, int status, str why, str reason=*) except -1
    cdef object _check_upgrade(self, object request, bytes key)
    cdef int _settle(self, object result, bytes body, bytes switch) except -1
    cdef int _upgrade(self, bytes switch, object admission) except -1
    cdef int _hold(self, object admission, bytes body) except -1

    # WebSocket
    cdef Py_ssize_t _read_frames(
        self, uint8_t* data, Py_ssize_t size, Py_ssize_t* whole
    ) except -1
    cdef int _take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1
    cdef int _took_since(self, int64_t since) except -1
    cdef int _take_deflated(self, Frame* frame) except -1
    cdef int _await_close(self) except -1
    cdef int _ping_came(self, Frame* frame) except -1
    cdef int _close_came(self, Frame* frame) except -1

    # Flow
    cdef int _consume(self, uint8_t* data, Py_ssize_t size) except -1
    cdef bint _may_read(self) noexcept
    cdef int _go_on(self) except -1
    cdef int _continue(self) except -1
    cdef int _note_held(self) except -1
    cdef int _put(self, bytes data) except -1
    cdef int _flush(self) except -1

    # The end
    cdef int _arm(self, double delay) except -1
    cdef double _patience(self) except -1
    cdef int _disarm(self) except -1
    cdef bint _is_taking(self) except -1
    cdef int _end_link(self, int code) except -1
    cdef int _cut(self) except -1
    cdef int _drain(self) except -1
    cdef int _hang_up(self, bint at_once) except -1
