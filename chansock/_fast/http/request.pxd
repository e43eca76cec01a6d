# A request as hooks and handlers see it: its head, and views that search it. A session keeps its
# Request, so a Request owns no more than the bytes that arrived.

from libc.stdint cimport uint8_t

# Return the first value of a field, as latin-1.
cdef object field_value(bytes head, str name, object default)
# Return whether the target is this path, letter by letter, with a query or without.
cdef bint asks_for(bytes head, bytes path)
cpdef bytes unquote_form(bytes text)
cdef int hex_digit(uint8_t char) noexcept   # -1: it is none


cdef class View:
    # Names with values, by the subclass; a read-only Mapping to its first ones.
    cdef object first(self, str name, object default)
    cdef list each(self, str name)
    cdef list names(self)               # once each, in the order received


cdef class Headers(View):
    cdef bytes head


cdef class Params(View):
    cdef bytes query
    cdef bytes form                     # b"": none

    cdef list sent(self, str name)


cdef class Request:
    # As it arrived
    cdef readonly bytes head
    cdef bytes form                     # the body, where it holds parameters; b"": it does not

    # What the edge knows of it
    cdef object transport               # asyncio's, which knows the client; None: not any more
    cdef object known_client
    cdef public str scheme
    cdef object asgi_scope              # None: it did not come through ASGI
    cdef str given_host                 # from a trusted proxy's headers; None: none

    cdef dict own                       # the application's; None: not used yet

    cdef bytes query_bytes(self)


cdef class Admission:
    # What the endpoint makes of a request that passes its checks, and later opens
    cdef readonly str kind
    cdef readonly Request request
    cdef readonly object uid
    cdef readonly str client_id
    cdef readonly object handshake


# Make a Request of a head that the engine read. The transport's address is read only on use.
cdef Request request_of(bytes head, object transport, str scheme)
# Return (host, port); None: a Unix socket.
cdef object client_of(object transport)
