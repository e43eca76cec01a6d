# cython: language_level=3
"""Request, the views of its fields and parameters, and Admission, a request that was let in.

A Request keeps its head as it arrived, as one bytes object, and each property searches it (part
`head`). A session holds its Request for as long as it lives, so a hundred thousand requests should
cost the bytes of their heads. It is in C, since each connection reads some twenty things of it
before its 101. No socket, no framework, and no rule of the channel here.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.string cimport memchr, memcpy

from collections.abc import ItemsView, KeysView, Mapping, ValuesView
from urllib.parse import unquote_to_bytes

cdef enum:
    MAX_PARAMS = 256            # of one part of a request; more cost time and mean nothing

    MAX_SITE = 300              # bytes of Host, and of Origin: a name has 255

include "head.pxi"

cdef object BREAKS = bytes.maketrans(b"\r\n\0", b"   ")


cdef class View:
    """A read-only mapping of names to their first values."""

    cdef object first(self, str name, object default):
        raise NotImplementedError

    cdef list each(self, str name):
        raise NotImplementedError

    cdef list names(self):
        raise NotImplementedError

    def __getitem__(self, name):
        found = self.first(name, None) if isinstance(name, str) else None
        if found is None:
            raise KeyError(name)
        return found

    def get(self, name, default=None):
        """Return the first value of name, or the default. Raises no exception internally."""
        return self.first(name, default) if isinstance(name, str) else default

    def getall(self, str name not None):
        """Return every value of name, in the order received; [] if there is none."""
        return self.each(name)

    def __contains__(self, name):
        return isinstance(name, str) and self.first(name, None) is not None

    def __iter__(self):
        return iter(self.names())

    def __len__(self):
        return len(self.names())

    def keys(self):
        return KeysView(self)

    def values(self):
        return ValuesView(self)

    def items(self):
        return ItemsView(self)

    def __eq__(self, other):
        if not isinstance(other, Mapping):
            return NotImplemented
        return dict(self.items()) == dict(other.items())

    def __repr__(self):
        # Names only: a value may be a cookie or a token, and a repr ends in a log.
        return f"{type(self).__name__}({', '.join([repr(name) for name in self.names()])})"


Mapping.register(View)


@cython.final
@cython.no_gc                   # what it holds is bytes
cdef class Headers(View):
    """The fields of a head, by name in any case; a view that searches the bytes.

    `[]` and `get` return the first value of a name, `getall` all of them in order. Iterating
    yields each name once, in lower case. Values are decoded as latin-1 (RFC 9110 section 5.5),
    without the white space around them.
    """

    def __cinit__(self, bytes raw not None):
        self.head = raw

    cdef object first(self, str name, object default):
        return field_value(self.head, name, default)

    cdef list each(self, str name):
        return field_values(self.head, name)

    cdef list names(self):
        return list(dict.fromkeys([name.lower() for name, _ in self.fields()]))

    def fields(self):
        """Return every field as (name as sent, value), in the order received."""
        cdef list pairs = []
        for line in self.head.split(b"\r\n")[1:]:
            name, colon, value = line.partition(b":")
            if colon:
                pairs.append((name.decode("latin-1"), value.strip(b" \t").decode("latin-1")))
        return pairs


@cython.final
@cython.no_gc                   # what it holds is bytes
cdef class Params(View):
    """The parameters of a request: those of the query, then those of a form.

    `[]` and `get` return the first value of a name, `getall` all of them in order. Names and
    values are percent-decoded as UTF-8; `+` is a space, and a broken escape stays as it is. Of
    each part, only the first 256 parameters count.
    """

    def __cinit__(self, bytes query not None, bytes form not None=b""):
        self.query = query
        self.form = form

    cdef object first(self, str name, object default):
        cdef bytes found = first_param(self.query, name, MAX_PARAMS)
        if found is None and self.form:
            found = first_param(self.form, name, MAX_PARAMS)
        return default if found is None else decode_param(found)

    cdef list each(self, str name):
        return [decode_param(given) for given in self.sent(name)]

    cdef list names(self):
        cdef dict found = {}
        add_param_names(found, self.query, MAX_PARAMS)
        add_param_names(found, self.form, MAX_PARAMS)
        return list(found)

    cdef list sent(self, str name):
        cdef list found = all_params(self.query, name, MAX_PARAMS)
        if self.form:
            found += all_params(self.form, name, MAX_PARAMS)
        return found

    def raw(self, str name not None):
        """Return every value of name as it was sent, still percent-encoded."""
        return self.sent(name)


cdef Request request_of(bytes head, object transport, str scheme):
    cdef Request request = Request.__new__(Request)
    request.head = head
    request.transport = transport
    request.scheme = scheme
    return request


cdef object client_of(object transport):
    peer = transport.get_extra_info("peername")
    return (peer[0], peer[1]) if isinstance(peer, tuple) and len(peer) >= 2 else None


cdef class Request:
    """One HTTP request, as hooks and handlers see it.

    `client` is (host, port) or None (a Unix socket), `scheme` "http" or "https". `state` is a
    dict for the application's own use. The properties search the head at each access: keep the
    result if you need it often.
    """

    def __cinit__(self, *args, **kwargs):
        self.head = self.form = b""
        self.scheme = "http"

    def __init__(self, bytes head not None, client=None, str scheme not None="http", scope=None):
        """Make a request of a head as received: request line to empty line, with CR LF."""
        self.head = head
        self.known_client = client
        self.scheme = scheme
        self.asgi_scope = scope

    @classmethod
    def from_fields(
        cls, str method not None, target, fields=(), *, client=None, scheme="http", scope=None
    ):
        """Make a Request of its fields, for an edge that has no raw head.

        `target` is raw: still percent-encoded, with its query. A line break in a value (which no
        server passes on) becomes a space, so that no field can make another.
        """
        lines = [b"%s %s HTTP/1.1" % (_raw(method), _raw(target).replace(b" ", b"%20"))]
        lines += [b"%s: %s" % (_raw(name), _raw(value)) for name, value in fields]
        return cls(b"\r\n".join([*lines, b"", b""]), client, scheme, scope)

    def set_form(self, bytes body not None):
        """Add the parameters of an application/x-www-form-urlencoded body to `params`."""
        self.form = body

    def set_host(self, str host not None):
        """Set `host`, from the headers of a trusted proxy."""
        self.given_host = host

    @property
    def client(self):
        """The client's address, as (host, port); None for a Unix socket."""
        if self.transport is not None:
            # The transport knows its address even when closed. Formatting the address takes long
            # compared with the rest, and most requests never need it.
            self.known_client, self.transport = client_of(self.transport), None
        return self.known_client

    @client.setter
    def client(self, client):
        self.known_client, self.transport = client, None

    @property
    def method(self):
        """The method as sent: `GET`."""
        return method_of(self.head)

    @property
    def target(self):
        """The request target as sent, percent-encoded, with its query."""
        return target_of(self.head).decode("latin-1")

    @property
    def host(self):
        """The host that the client requested, with its port if there is one: `chat.example:8000`.

        It comes from a trusted proxy's headers, else from a target in absolute form, else from
        the Host field; "" if there is none.
        """
        cdef Py_ssize_t size = 0
        cdef const char* target = find_target(self.head, &size)
        cdef bytes asked
        if self.given_host is not None:
            return self.given_host
        if size and target[0] not in b"/*":
            asked = PyBytes_FromStringAndSize(target, size)
            if b"://" in asked:
                authority = asked.partition(b"://")[2]
                return authority.partition(b"/")[0].partition(b"?")[0].decode("latin-1")
        return field_value(self.head, "host", "")

    @property
    def path(self):
        """The path, percent-decoded, without the query."""
        path = target_of(self.head).partition(b"?")[0]
        if path[:1] != b"/" and b"://" in path:     # absolute form, RFC 9112 section 3.2.2
            path = b"/" + path.partition(b"://")[2].partition(b"/")[2]
        return unquote_to_bytes(path).decode("utf-8", "replace")

    cdef bytes query_bytes(self):
        cdef Py_ssize_t size = 0
        cdef const char* target = find_target(self.head, &size)
        cdef const char* mark = <const char*>memchr(target, c"?", size)
        if mark == NULL:
            return b""
        return PyBytes_FromStringAndSize(mark + 1, target + size - mark - 1)

    @property
    def query(self):
        """The part of the target behind the `?`, as sent; "" if there is none."""
        return self.query_bytes().decode("latin-1")

    @property
    def headers(self):
        """The fields of the head."""
        return Headers(self.head)

    @property
    def cookies(self):
        """The cookies, as sent but for quotes around a value; the first of a name counts."""
        return cookies_of(self.head)

    @property
    def params(self):
        """The parameters of the query, then those of a form."""
        return Params(self.query_bytes(), self.form)

    @property
    def scope(self):
        """The ASGI scope. Raises AttributeError if the request did not come through ASGI."""
        if self.asgi_scope is None:
            raise AttributeError(
                "expected a request that came through ASGI, got one without a scope "
                "(in a test, pass it to connect: scope={...})"
            )
        return self.asgi_scope

    @scope.setter
    def scope(self, scope):
        self.asgi_scope = scope

    @property
    def state(self):
        """A dict for the application, made on first use."""
        if self.own is None:
            self.own = {}
        return self.own

    def __repr__(self):
        # Without the query: a token may stand in it.
        return f"Request({self.method} {self.path!r})"


def site_of(Request request not None):
    """Return all that the checks of host and origin read, as one bytes; None: not that simple.

    Equal bytes mean the same requested host, the same scheme, and the same Origin.
    """
    cdef const char* start = PyBytes_AS_STRING(request.head)
    cdef const char* end = start + PyBytes_GET_SIZE(request.head)
    cdef const char* stop = NULL
    cdef const char* host
    cdef const char* origin
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t scheme, length
    cdef bytes site
    cdef char* out
    host = find_target(request.head, &size)
    if request.given_host is not None or size == 0 or host[0] != c"/":
        return None                 # another source than the field counts
    host = find_field(start, end, b"host", 4, &stop)
    size = 0 if host == NULL else stop - host
    origin = find_field(start, end, b"origin", 6, &stop)
    length = 0 if origin == NULL else stop - origin
    if not (0 < size <= MAX_SITE and 0 < length <= MAX_SITE):
        return None
    if find_field(stop, end, b"origin", 6, &stop) != NULL:
        return None
    spelled = PyUnicode_AsUTF8AndSize(request.scheme, &scheme)
    # Lengths in front, so that no two sites have the same bytes.
    site = PyBytes_FromStringAndSize(NULL, 2 * sizeof(Py_ssize_t) + scheme + size + length)
    out = PyBytes_AS_STRING(site)
    memcpy(out, &scheme, sizeof(Py_ssize_t))
    memcpy(out + sizeof(Py_ssize_t), &size, sizeof(Py_ssize_t))
    out += 2 * sizeof(Py_ssize_t)
    memcpy(out, spelled, scheme)
    memcpy(out + scheme, host, size)
    memcpy(out + scheme + size, origin, length)
    return site


@cython.final
@cython.freelist(8)             # it lives from a request to its opening, mostly at once
cdef class Admission:
    """A request that was let in. `kind` is "ws", "poll", or "post". `handshake` is a Packet for a
    socket, and for a GET that needs one."""

    def __cinit__(self, str kind, Request request, uid, str client_id, handshake=None):
        self.kind = kind
        self.request = request
        self.uid = uid
        self.client_id = client_id
        self.handshake = handshake

    def __repr__(self):
        return f"Admission(kind={self.kind!r}, request={self.request!r}, uid={self.uid!r})"


cdef bytes _raw(text):
    raw = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    return raw.translate(BREAKS)
