# What one node sends in a turn of the loop, as items for the engine that joins the nodes.
#
# Events that follow each other share an item, and so an envelope, if they have the same target and
# the same options. An envelope has the bytes that `Envelope.encode` of _core/envelope would write;
# that file describes them. No engine and no connection is known here.


cdef extern from "Python.h":
    const char* PyUnicode_AsUTF8(object text) except NULL


cdef enum:
    MAX_SPARE = 1 << 16         # bytes of memory that stay with a turn for the next one


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Item:
    """Events for one target, as a node appends them.

    `key` names the target, `count` is the number of events in `envelope`. Each of them gets a
    number. Only an item that `is_kept` is stored; the others are passed on in the same order.
    """

    def __init__(self, str key not None, Py_ssize_t count, bint is_kept, bytes envelope not None):
        self.key = key
        self.count = count
        self.is_kept = is_kept
        self.envelope = envelope


cdef int _put_number(WriteBuffer out, Py_ssize_t number) except -1:
    # Seven bits a byte, the lowest first, as packing.Writer does.
    while number > 0x7F:
        out.put_byte(<uint8_t>(number & 0x7F | 0x80))
        number >>= 7
    return out.put_byte(<uint8_t>number)


@cython.final
cdef class Turn:
    """The items of a turn, in the order in which their events were added.

    `names` is what stands between the flags and `only` in each envelope: packer and origin.
    """

    def __cinit__(self, int version, bytes names not None):
        self.version = <uint8_t>version
        self.names = names
        self.items = []
        self.events = WriteBuffer()
        self.whole = WriteBuffer()

    def __bool__(self):
        return self.count > 0 or len(self.items) > 0

    def add(self, str key not None, str only not None, tuple fragments not None, bint flush=False):
        """Add events for a target; `only` is the one client-id that they are for, or empty.

        Raises UnicodeEncodeError for a target that UTF-8 cannot carry, and EncodeError for a key of
        `latest` that edn cannot write. Nothing of the event is added then.
        """
        cdef Fragment fragment
        cdef bytes latest
        PyUnicode_AsUTF8(key)
        for fragment in fragments:
            latest = b"" if fragment.key is None else dumps(fragment.key)
            if self.count and not (
                self.is_kept == fragment.is_kept and self.key == key and self.only == only
            ):
                self.finish()
            if self.count == 0:
                self.key, self.only, self.is_kept = key, only, fragment.is_kept
                self.flush = False
            self.count += 1
            self.flush |= flush
            self.nbytes += PyBytes_GET_SIZE(fragment.data) + AROUND_EVENT
            _put_number(self.events, PyBytes_GET_SIZE(latest))
            self.events.put_bytes(latest)
            _put_number(self.events, PyBytes_GET_SIZE(fragment.data))
            self.events.put_bytes(fragment.data)

    def put(self, Item item not None):
        """Add an item that is whole."""
        self.finish()
        self.items.append(item)

    def take(self):
        """Return the items, and begin the next turn."""
        cdef list items
        self.finish()
        items, self.items = self.items, []
        self.nbytes = 0
        if self.events.capacity > MAX_SPARE or self.whole.capacity > MAX_SPARE:
            self.events.clear()
            self.whole.clear()
        return items

    cdef int finish(self) except -1:
        # Make an item of the events since the last one.
        cdef Item item
        cdef bytes only = b""
        cdef WriteBuffer out = self.whole
        if self.count == 0:
            return 0
        if self.only:
            only = self.only.encode("utf-8", "surrogatepass")
        out.cut(0)
        out.put_byte(self.version)
        out.put_byte((KEPT if self.is_kept else 0) | (FLUSH if self.flush else 0))
        out.put_bytes(self.names)
        _put_number(out, PyBytes_GET_SIZE(only))
        out.put_bytes(only)
        out.put_byte(0)             # it skips no client
        _put_number(out, self.count)
        out.put(self.events.data, self.events.size)
        item = Item.__new__(Item)
        item.key = self.key
        item.count = self.count
        item.is_kept = self.is_kept
        item.envelope = out.take()
        self.items.append(item)
        self.events.cut(0)
        self.count = 0
        return 0
