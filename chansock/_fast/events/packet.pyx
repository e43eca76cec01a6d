# One packet: its bytes, and the WebSocket frame around them, made once and cached; the C method
# table of a packer, and the packers of edn and of foreign objects. No session, socket, or clock.

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from chansock._fast.io.buffer cimport Span, WriteBuffer
from chansock._fast.io.cpython_api cimport decref, new_ref, steal_ref
from chansock._fast.ws cimport frames
from chansock._fast.ws.frames cimport Deflate
from chansock._fast.edn.reader cimport NO_FORM, NO_PAIR, Found, Reader
from chansock._fast.edn.writer cimport Writer

from chansock.errors import EdnDecodeError, PacketError
from chansock.values import Keyword, short_repr


# -- frames --

cdef bytes frame_of(bytes payload, bint is_binary):
    cdef uint8_t[10] header
    cdef Py_ssize_t size = len(payload), head = frames.write_head(
        header, frames.BINARY if is_binary else frames.TEXT, size
    )
    cdef bytes frame = PyBytes_FromStringAndSize(NULL, head + size)
    cdef char* data = PyBytes_AS_STRING(frame)
    memcpy(data, header, <size_t>head)
    memcpy(data + head, PyBytes_AS_STRING(payload), <size_t>size)
    return frame


@cython.final
@cython.no_gc                   # what it holds is bytes
@cython.freelist(256)
cdef class Packet:
    """The bytes of one packet, and of the WebSocket frame around them."""

    def __cinit__(self, bytes payload not None, bint binary=False):
        self.payload = payload
        self.size = len(payload)
        self.binary = binary

    cpdef bytes frame(self):
        """Return the unmasked frame, made at the first call and shared by all that send it."""
        if self.frame_bytes is None:
            self.frame_bytes = frame_of(self.payload, self.binary)
            self.head = len(self.frame_bytes) - self.size
            self.payload = None
        return self.frame_bytes

    cpdef bytes deflated(self, Deflate deflate):
        """Return the frame for peers that agreed on `deflate`, made once for each window.

        It is the plain frame if the packet is short, or if deflating does not make it shorter.
        """
        cdef bytes frame
        if self.size < deflate.threshold:
            return self.frame()
        if self.deflated_frames is None:
            self.deflated_frames = {}
        frame = self.deflated_frames.get(deflate.window_bits)
        if frame is None:
            frame = deflate.frame(self.body(), self.binary)
            if frame is None:
                frame = self.frame()
            self.deflated_frames[deflate.window_bits] = frame
        return frame

    cpdef bytes body(self):
        """Return the payload: a copy once the frame was made."""
        if self.payload is not None:
            return self.payload
        return PyBytes_FromStringAndSize(
            PyBytes_AS_STRING(self.frame_bytes) + self.head, self.size)


# -- packers --

cdef class Packer:
    """Values to packet bytes and back: the methods that the engine calls."""

    cpdef bytes fragment(self, object event):
        """Return one event `(id,)` or `(id, data)`, encoded so that it can stand in any batch."""
        raise NotImplementedError(f"{type(self).__name__}.fragment")

    cpdef bytes batch(self, list fragments):
        """Return the packet that carries the fragments, in order."""
        raise NotImplementedError(f"{type(self).__name__}.batch")

    cpdef bytes packet(self, object value, object cb_id):
        """Return the packet of one value; cb_id None: it is not a reply."""
        raise NotImplementedError(f"{type(self).__name__}.packet")

    cdef bytes packet_into(self, object value, object cb_id, WriteBuffer out):
        cdef bytes packed = self.packet(value, cb_id)
        if packed is None:
            raise TypeError(f"expected a packet from {self!r}, got None")
        return packed

    cdef int unpack_event(
        self, const uint8_t* data, Py_ssize_t size, PyObject** parts
    ) except -1:
        raise NotImplementedError(f"{type(self).__name__}.unpack")

    def unpack(self, view):
        """Return (value, cb_id) of the packet in view; raises PacketError if it is none."""
        cdef Py_buffer memory
        cdef PyObject* parts[3]
        cdef int length
        PyObject_GetBuffer(view, &memory, PyBUF_SIMPLE)
        try:
            length = self.unpack_event(<const uint8_t*>memory.buf, memory.len, parts)
        finally:
            PyBuffer_Release(&memory)
        value, data, cb_id = steal_ref(parts[0]), steal_ref(parts[1]), steal_ref(parts[2])
        return [value, data][:length] if length else value, cb_id


cdef int unpack_message(
    Packer packer, const uint8_t* data, Py_ssize_t size, bint is_text, PyObject** parts
) except -1:
    if is_text == packer.binary:
        kinds = ("binary", "text") if is_text else ("text", "binary")
        raise PacketError("expected a %s frame, got a %s one" % kinds)
    if not is_text or size < 2 or data[0] not in (c'+', c'-'):
        return packer.unpack_event(data, size, parts)
    # Sente's signs, in text alone: 1.17 wrote `+` before each packet, and reads packets
    # without; up to 1.16 `-` preceded a value without a callback, and nothing else is read.
    if data[0] == c'+' and data[1] == c'[':
        return packer.unpack_event(data + 1, size - 1, parts)
    if data[0] == c'-' and data[1] == c'[':
        raise PacketError("expected Sente 1.17 or later, got a client of 1.16 or before")
    return packer.unpack_event(data, size, parts)


@cython.final
cdef class EdnPacker(Packer):
    """Sente's edn packer: text, `[value cb-id]`.

    keys="keyword": a map's plain str keys are keywords; keys="string": strings.
    tagged=True: an element with an unknown tag travels as a Tagged. By default it is refused in
    both directions, as Sente's ends refuse it when they read.
    default: called with each value that edn has no form for; returns one to write instead.
    """

    def __cinit__(self, keys="keyword", bint tagged=False, default=None):
        self.reader = Reader(keys, tagged=tagged)
        self.writer = Writer(keys, default, tagged=tagged)
        self.keys = keys
        self.tagged = tagged
        self.binary = False

    @property
    def default(self):
        return self.writer.default

    def __repr__(self):
        shown = "" if self.writer.default is None else f", default={self.writer.default!r}"
        return f"EDN(keys={self.keys!r}, tagged={bool(self.tagged)!r}{shown})"

    def __reduce__(self):
        return EdnPacker, (self.keys, bool(self.tagged), self.writer.default)

    cpdef bytes fragment(self, object event):
        """Return `[:id data]` of `(id, data)`, `[:id]` of `(id,)`."""
        cdef bint has_data = len(event) > 1
        return self.writer.put_pair(
            event[0], event[1] if has_data else None, True, has_data, None)

    cpdef bytes batch(self, list fragments):
        """Return `[[event ...] nil]`."""
        cdef Py_ssize_t size = 8 + max(0, len(fragments) - 1)
        cdef bytes fragment, result
        cdef char* p
        for fragment in fragments:
            size += len(fragment)
        result = PyBytes_FromStringAndSize(NULL, size)
        p = PyBytes_AS_STRING(result)
        memcpy(p, b"[[", 2)
        p += 2
        for fragment in fragments:
            if p - PyBytes_AS_STRING(result) > 2:
                p[0] = c' '
                p += 1
            memcpy(p, PyBytes_AS_STRING(fragment), <size_t>len(fragment))
            p += len(fragment)
        memcpy(p, b"] nil]", 6)
        return result

    cpdef bytes packet(self, object value, object cb_id):
        """Return `[value cb-id]`."""
        return self.writer.put_pair(value, cb_id, False, True, None)

    cdef bytes packet_into(self, object value, object cb_id, WriteBuffer out):
        return self.writer.put_pair(value, cb_id, False, True, out)

    cdef int unpack_event(
        self, const uint8_t* data, Py_ssize_t size, PyObject** parts
    ) except -1:
        # Sente destructures whatever it reads: a missing element is nil, more than two are
        # ignored, and so is text after the first form. Empty text is nil; blank text is not.
        cdef Found found
        cdef int length = 0
        if size == 0:
            parts[0], parts[1], parts[2] = new_ref(None), new_ref(None), new_ref(None)
            return 0
        try:
            found = self.reader.read_pair(data, size, &length, parts)
        except EdnDecodeError as error:
            raise PacketError(f"expected a packet `[value cb-id]` in edn, got none: "
                              f"{error.message} at byte {error.position}") from error
        if found == NO_FORM:
            raise PacketError("expected a packet `[value cb-id]`, got nothing but whitespace")
        if found == NO_PAIR:
            raise PacketError(f"expected a packet `[value cb-id]`, got {_shown(data, size)}")
        none_if_false(&parts[2])
        return length or take_apart(parts)     # one with metadata is an event as well


@cython.final
cdef class ForeignPacker(Packer):
    """Any Python object with the methods of the public Packer protocol, as the engine calls it.

    What its `unpack` raises counts as a bad packet.
    """

    def __cinit__(self, packer):
        self.packer = packer
        self.binary = packer.binary

    def __repr__(self):
        return f"ForeignPacker({self.packer!r})"

    cpdef bytes fragment(self, object event):
        return self.packer.fragment(event)

    cpdef bytes batch(self, list fragments):
        return self.packer.batch(fragments)

    cpdef bytes packet(self, object value, object cb_id):
        return self.packer.packet(value, cb_id)

    cdef int unpack_event(
        self, const uint8_t* data, Py_ssize_t size, PyObject** parts
    ) except -1:
        cdef Span span = Span.__new__(Span)
        span.aim(<uint8_t*>data if size else <uint8_t*>b"", size, True)
        view = memoryview(span)
        try:
            value, asked = self.packer.unpack(view)
        except PacketError:
            raise
        except Exception as error:
            raise PacketError(
                f"expected a packet of {self.packer!r}, got {short_repr(error, 160)}") from error
        finally:
            _close(view)
            span.release()
        if span.exports:
            # what was kept shows other messages later on
            raise PacketError(f"expected {self.packer!r} to copy what it keeps, got an open view")
        parts[0], parts[1], parts[2] = new_ref(value), new_ref(None), new_ref(asked)
        none_if_false(&parts[2])
        return take_apart(parts)


cdef int take_apart(PyObject** parts) except -1:
    cdef object value = <object>parts[0]
    cdef Py_ssize_t size = len(<list>value) if type(value) is list else 0
    if not 1 <= size <= 2 or type((<list>value)[0]) is not Keyword:
        return 0
    decref(parts[0])
    parts[0] = new_ref((<list>value)[0])
    if size == 2:
        decref(parts[1])
        parts[1] = new_ref((<list>value)[1])
    return <int>size


cdef _close(object view):
    try:
        view.release()
    except BufferError:     # something still looks at it: the open view is counted
        pass


cpdef Packer adapt(object packer):
    """Return the engine's face of a packer: itself, or a ForeignPacker around it."""
    return packer if isinstance(packer, Packer) else ForeignPacker(packer)


cdef str _shown(const uint8_t* data, Py_ssize_t size):
    # Return the repr of the start of a message.
    cdef bytes start = PyBytes_FromStringAndSize(<const char*>data, min(size, 160))
    cdef str text = start.decode("utf-8", "replace")
    return repr(text) if len(text) <= 40 else repr(text[:40]) + "..."


# -- JSON: only how deep a text nests; it has been parsed, so it is well formed --

def deepest(view not None):
    """Return the depth of the arrays and objects of a JSON text, in one pass over its bytes."""
    cdef Py_buffer text
    PyObject_GetBuffer(view, &text, PyBUF_SIMPLE)
    cdef Py_ssize_t found = _deepest(<const uint8_t*>text.buf, text.len)
    PyBuffer_Release(&text)
    return found


cdef Py_ssize_t _deepest(const uint8_t* text, Py_ssize_t size) noexcept nogil:
    cdef Py_ssize_t at = 0, depth = 0, most = 0
    cdef bint is_string = False
    while at < size:
        if is_string:
            if text[at] == c'\\':
                at += 1
            elif text[at] == c'"':
                is_string = False
        elif text[at] == c'"':
            is_string = True
        elif text[at] == c'[' or text[at] == c'{':
            depth += 1
            if depth > most:
                most = depth
        elif text[at] == c']' or text[at] == c'}':
            depth -= 1
        at += 1
    return most
