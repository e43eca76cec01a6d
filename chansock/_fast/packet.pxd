# One packet: its bytes, and the WebSocket frame around them, made once and cached;
# and the C method table of a packer. No session, socket or clock here.

from libc.stdint cimport uint8_t


cdef class Packet:
    # The payload as the packer made it, and its frame (unmasked, FIN, text or binary).
    # Only one of the two is kept: the frame holds the payload from `head` on.
    cdef bytes payload
    cdef bytes frame_bytes
    cdef Py_ssize_t head
    cdef readonly Py_ssize_t size       # of the payload, bytes
    cdef readonly bint binary

    cdef bytes frame(self)              # whole frame, cached: what a WebSocket gets
    cpdef bytes body(self)              # payload alone: what an Ajax response gets


cdef class Packer:
    # Values to packet bytes and back. Wire shapes: packet `[value cb-id]`,
    # batch `[[event ...] nil]`; a fragment is one encoded event, free of context.
    cdef readonly bint binary

    cpdef bytes fragment(self, object event)
    cpdef bytes batch(self, list fragments)
    cpdef bytes packet(self, object value, object cb_id)
    # -> (value, cb_id); raises PacketError. The memory is borrowed until it returns.
    cdef tuple unpack_span(self, const uint8_t* data, Py_ssize_t size)
