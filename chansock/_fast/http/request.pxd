# A request as hooks and handlers see it: its head, and views that search it. A session keeps its
# Request, so that it owns no more than the bytes it came as.

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
    # As it came
    cdef readonly bytes head
    cdef bytes form                     # the body, where it holds parameters; b"": it does not

    # What the edge knows of it
    cdef object transport               # asyncio's, which knows the client; None: it was asked
    cdef object known_client
    cdef public str scheme
    cdef object asgi_scope             # None: it came another way
    cdef str given_host                 # a trusted proxy's word; None: none

    cdef dict own                       # the application's; None: not asked for

    cdef bytes query_bytes(self)


cdef class Admission:
    # What the endpoint says to a request, and opens
    cdef readonly str kind
    cdef readonly Request request
    cdef readonly object uid
    cdef readonly str client_id
    cdef readonly object handshake


# Of what the engine read. The transport is asked for the client only if somebody asks for that.
cdef Request request_of(bytes head, object transport, str scheme)
# (host, port); None: a Unix socket
cdef object client_of(object transport)
