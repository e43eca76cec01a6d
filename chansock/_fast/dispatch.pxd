# From a packet to an event to a handler to a reply, once per event.

from libc.stdint cimport uint8_t


cdef class Connection:
    # One live socket or poll of a session, as the edge sees it (Endpoint.open gives it).

    # One message as received, borrowed until it returns. 1: taken (even if it was junk:
    # a PacketError never comes out of here). 0: no room, nothing was taken; the edge keeps
    # the message and all behind it, stops reading, and gives it again after set_reading(True).
    cdef int take(self, const uint8_t* data, Py_ssize_t size, bint is_text) except -1
