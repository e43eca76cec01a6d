# The MessagePack packer: reader and writer behind the C method table of a packer.

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from chansock._fast.io.buffer cimport WriteBuffer
from chansock._fast.edn.reader cimport Source, drop_source, open_source
from chansock._fast.msgpack.reader cimport read_envelope
from chansock._fast.msgpack.writer cimport MessagePackWriter
from chansock._fast.events.packet cimport Packer, none_if_false, take_apart

from chansock.errors import EdnDecodeError, PacketError

cdef extern from "msgpack/msgpack.h":
    uint8_t* put_head "chansock_put_head"(
        uint8_t* at, Py_ssize_t size, uint8_t fixed, uint8_t code) noexcept

cdef enum:
    DEEPEST = 500   # the packet's own arrays count, as in the writer


@cython.final
cdef class MessagePackPacker(Packer):
    """Sente's MessagePack packer: binary, `[value cb-id]`, with Sente's extensions.

    | travels unchanged | as |
    |---|---|
    | None, bool, float, str, bytes | MessagePack's own; floats are float64, float32 is read |
    | int from -2^63 to 2^64 - 1 | in the least width, as Sente's JVM side |
    | list, dict, StrDict | array, map |
    | Keyword, Symbol, Char, set, UUID | extensions 0, 1, 2, 4, 9 |
    | Fraction of integers of 64 bits | extension 3 |
    | datetime in UTC, to the microsecond | the timestamp of 96 bits |
    | array.array of "i", "f", "d" | extensions 5, 6, 7: int[], float[], double[], big-endian |

    As in edn a map's plain str keys are keywords, a StrDict's strings; keys="string" turns that
    around. A Keyword may have any name here; one that edn can't spell is read as Keyword in a
    map, too. Maps in hashed places are FrozenDict, arrays tuple, sets frozenset.

    Changed on the way: tuple and List become lists, bytearray and memoryview bytes, a datetime
    of another zone is in UTC, records, Enum members and subclasses are written as in edn.

    Refused, or given to `default`, which returns what can be written: integers of more than 64
    bits, Decimal, Tagged, datetimes without a zone, arrays of other types, all that edn refuses;
    and text with lone surrogates. Read, and refused: what Python would merge (`{:a 1, "a" 2}`),
    extensions that are not Sente's, text that is no UTF-8.

    Map keys that come again are written as a reference in a packet by itself (a reply, a
    handshake, a client's event), never in a push, whose events stand in many packets.
    """

    def __cinit__(self, keys="keyword", default=None):
        self.writer = MessagePackWriter(keys, default)
        self.keys = keys
        self.keyword_keys = self.writer.keyword_keys
        self.binary = True

    @property
    def default(self):
        return self.writer.default

    def __repr__(self):
        shown = "" if self.writer.default is None else f", default={self.writer.default!r}"
        return f"MessagePack(keys={self.keys!r}{shown})"

    def __reduce__(self):
        return MessagePackPacker, (self.keys, self.writer.default)

    cpdef bytes fragment(self, object event):
        """Return `[:id data]` of `(id, data)`, `[:id]` of `(id,)`; no key refers to another."""
        cdef bint has_data = len(event) > 1
        return self.writer.put_event(event[0], event[1] if has_data else None, has_data)

    cpdef bytes batch(self, list fragments):
        """Return `[[event ...] nil]`."""
        cdef Py_ssize_t size = 0, count = len(fragments)
        cdef bytes fragment, result
        cdef uint8_t[8] head
        cdef uint8_t* at = head
        cdef char* p
        at[0] = 0x92
        at = put_head(at + 1, count, 0x90, 0xDC)
        for fragment in fragments:
            size += len(fragment)
        result = PyBytes_FromStringAndSize(NULL, (at - head) + size + 1)
        p = PyBytes_AS_STRING(result)
        memcpy(p, head, <size_t>(at - head))
        p += at - head
        for fragment in fragments:
            memcpy(p, PyBytes_AS_STRING(fragment), <size_t>len(fragment))
            p += len(fragment)
        p[0] = <char>0xC0
        return result

    cpdef bytes packet(self, object value, object cb_id):
        """Return `[value cb-id]`."""
        return self.writer.put_packet(value, cb_id, None)

    cdef bytes packet_into(self, object value, object cb_id, WriteBuffer out):
        return self.writer.put_packet(value, cb_id, out)

    cdef int unpack_event(
        self, const uint8_t* data, Py_ssize_t size, PyObject** parts
    ) except -1:
        # As Sente does it: a missing element is nil, more than two are ignored, and so are the
        # bytes behind the packet, which its client's POSTs have many of.
        cdef Source s
        cdef int length
        open_source(&s, data, size, NULL)
        s.max_depth = DEEPEST
        s.keyword_keys = self.keyword_keys
        try:
            length = read_envelope(&s, parts)
        except EdnDecodeError as error:
            raise PacketError(f"{error.message} at byte {error.position}") from None
        finally:
            drop_source(&s)
        none_if_false(&parts[2])
        return length or take_apart(parts)
