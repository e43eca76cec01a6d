# Memory to write to (WriteBuffer), and windows on borrowed memory (Span).
# No frame, no value, no socket: pointers and lengths only, and the words of a command.

cimport cython
from cpython.buffer cimport PyBuffer_FillInfo
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from libc.stdint cimport int64_t, uint8_t, uint64_t
from libc.stdlib cimport free, realloc

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL

cdef Py_ssize_t SMALLEST = 256      # holds the usual message and its frame
cdef Py_ssize_t SMALL = 479         # bytes for which CPython's own allocator has places of a size


cdef bytes exact(bytes data):
    # Encoders allocate more room than they use and free the rest. The holes between such pieces
    # are too small for the next piece, and would never be filled.
    if data is None or PyBytes_GET_SIZE(data) <= SMALL:
        return data
    return PyBytes_FromStringAndSize(PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data))


cdef enum:
    DIGITS = 24                     # room for those of any 64 bits, and a sign


cdef const char* write_digits(int64_t number, char* room, Py_ssize_t* size) noexcept:
    # Write a number to the end of the room; return where it begins.
    cdef char* at = room + DIGITS
    cdef uint64_t left = <uint64_t>number if number >= 0 else 0 - <uint64_t>number
    while True:
        at -= 1
        at[0] = <char>(c'0' + left % 10)
        left //= 10
        if left == 0:
            break
    if number < 0:
        at -= 1
        at[0] = c'-'
    size[0] = room + DIGITS - at
    return at


@cython.final
cdef class WriteBuffer:
    """A buffer that grows: put bytes, then take them all."""

    def __dealloc__(self):
        free(self.data)

    def __len__(self):
        return self.size

    cdef int _grow(self, Py_ssize_t count) except -1:
        # Doubling keeps a message of n bytes at O(n) copying.
        cdef Py_ssize_t wanted, capacity = max(self.capacity, SMALLEST)
        cdef uint8_t* data
        if count > PY_SSIZE_T_MAX // 2 - self.size:
            raise MemoryError(f"expected a write buffer under 2^62 bytes, got {count} more")
        wanted = self.size + count
        while capacity < wanted:
            capacity *= 2
        data = <uint8_t*>realloc(self.data, <size_t>capacity)
        if data is NULL:
            raise MemoryError(f"no memory for a write buffer of {capacity} bytes")
        self.data = data
        self.capacity = capacity
        return 0

    def write(self, const uint8_t[::1] source not None):
        """Put the bytes of any buffer."""
        if source.shape[0]:
            self.put(&source[0], source.shape[0])

    def put_command(self, tuple words not None):
        """Put a command of Redis' protocol: its words, numbers in digits, as bulk strings.

        Raises TypeError for a word of another type, and puts nothing then.
        """
        cdef Py_ssize_t size, before = self.size
        cdef const char* text
        cdef char digits[DIGITS]
        try:
            self.put_size(c'*', len(words))
            for word in words:
                if type(word) is bytes:
                    text, size = PyBytes_AS_STRING(word), PyBytes_GET_SIZE(word)
                elif type(word) is str:
                    text = PyUnicode_AsUTF8AndSize(word, &size)
                elif type(word) is int:
                    text = write_digits(word, digits, &size)
                else:
                    raise TypeError(f"expected a str, bytes, or int, got {type(word).__name__}")
                self.put_size(c'$', size)
                self.put(text, size)
                self.put(<const char*>b"\r\n", 2)
        except BaseException:
            self.size = before
            raise

    cdef int put_size(self, uint8_t kind, Py_ssize_t size) except -1:
        cdef char digits[DIGITS]
        cdef Py_ssize_t length
        cdef const char* text = write_digits(size, digits, &length)
        self.put_byte(kind)
        self.put(text, length)
        return self.put(<const char*>b"\r\n", 2)

    cpdef bytes take(self):
        """Return all bytes, and empty the buffer."""
        cdef bytes result = PyBytes_FromStringAndSize(<char*>self.data, self.size)
        self.size = 0
        return result

    cpdef clear(self):
        """Empty the buffer, and free its memory."""
        free(self.data)
        self.data = NULL
        self.size = 0
        self.capacity = 0


@cython.final
cdef class Span:
    """A window on borrowed memory that can be moved. Raises BufferError once released.

    Python code moves it with `aim_at`; the engine aims it at memory of its own. It is writable if
    the memory is.
    """

    def __len__(self):
        return self.size

    cdef void aim(self, uint8_t* data, Py_ssize_t size, bint is_readonly) noexcept:
        self.data = data
        self.size = size
        self.is_readonly = is_readonly
        self._owner = None

    def aim_at(self, memory not None):
        """Move to the memory of a bytes or a bytearray, and keep it alive and in place."""
        cdef const uint8_t[::1] view
        cdef object owner
        owner = memoryview(memory)  # an open view forbids a bytearray to move
        view = owner
        self.aim(<uint8_t*>&view[0] if view.shape[0] else <uint8_t*>b"", view.shape[0],
                 owner.readonly)
        self._owner = owner

    cpdef release(self):
        """Release the memory: later uses raise BufferError. Open views are not revoked."""
        self.data = NULL
        self.size = 0
        self._owner = None

    def __getbuffer__(self, Py_buffer* view, int flags):
        if self.data is NULL:
            raise BufferError("expected a span on live memory, got a released one")
        PyBuffer_FillInfo(view, self, self.data, self.size, self.is_readonly, flags)
        self.exports += 1

    def __releasebuffer__(self, Py_buffer* view):
        self.exports -= 1
