# One packet: its bytes, and the WebSocket frame around them, made once and cached;
# and the C method table of a packer. No session, socket or clock here.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t

from chansock._fast.io.cpython_api cimport Py_False, decref, new_ref
from chansock._fast.io.buffer cimport Span, WriteBuffer
from chansock._fast.ws.frames cimport Deflate
from chansock._fast.edn.reader cimport Reader
from chansock._fast.edn.writer cimport Writer


# The frame around a payload: unmasked, FIN, text or binary (RFC 6455 section 5.2).
cdef bytes frame_of(bytes payload, bint is_binary)


@cython.final
cdef class Packet:
    # The payload as the packer made it, and its frame (unmasked, FIN, text or binary).
    # Only one of the two is kept: the frame holds the payload from `head` on.
    cdef bytes payload
    cdef bytes frame_bytes
    cdef Py_ssize_t head
    cdef dict deflated_frames           # by window bits; None: nobody asked for one
    cdef readonly Py_ssize_t size       # of the payload, bytes
    cdef readonly bint binary

    cpdef bytes frame(self)             # whole frame, cached: what a WebSocket gets
    cpdef bytes deflated(self, Deflate deflate)     # the same for peers that agreed on RFC 7692
    cpdef bytes body(self)              # payload alone: what an Ajax response gets


cdef class Packer:
    # The C method table of a packer, so subclassed: EdnPacker, ForeignPacker.
    # Values to packet bytes and back. Wire shapes: packet `[value cb-id]`,
    # batch `[[event ...] nil]`; a fragment is one encoded event, free of context.
    cdef readonly bint binary

    cpdef bytes fragment(self, object event)
    cpdef bytes batch(self, list fragments)
    cpdef bytes packet(self, object value, object cb_id)
    # Put the packet into `out`, in place of what it holds, and return None. A long packet is
    # returned instead.
    cdef bytes packet_into(self, object value, object cb_id, WriteBuffer out)
    # Read the packet of an event, `[[:id data] cb-id]`. Return the event's size, 1 or 2, and set
    # its parts: the keyword, the data, the callback id. For any other value return 0; the value is
    # then the first part. The caller owns all three. Raise PacketError. The memory is borrowed
    # until the call returns.
    cdef int unpack_event(
        self, const uint8_t* data, Py_ssize_t size, PyObject** parts
    ) except -1


# Call unpack_event for a message as it arrived, whatever it is.
cdef int unpack_message(
    Packer packer, const uint8_t* data, Py_ssize_t size, bint is_text, PyObject** parts
) except -1

# Replace the list that holds the parts of an event by the parts. Return its size, or 0.
cdef int take_apart(PyObject** parts) except -1

# A callback id that is false asks for no reply.
cdef inline int none_if_false(PyObject** cb_id) noexcept:
    if cb_id[0] == Py_False:
        decref(cb_id[0])
        cb_id[0] = new_ref(None)
    return 0


@cython.final
cdef class EdnPacker(Packer):
    cdef readonly str keys
    cdef readonly bint tagged
    cdef Reader reader
    cdef Writer writer


@cython.final
cdef class ForeignPacker(Packer):
    cdef readonly object packer     # any object of the public Packer protocol


# Return a packer that the engine can call: itself if it is of the engine, else a ForeignPacker.
cpdef Packer adapt(object packer)
