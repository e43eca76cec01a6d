# edn text to Python values, straight from borrowed memory. It knows nothing of packets.
#
# This file holds the options of a read, what may surround the one form, and the functions for
# Python. Its parts, each of which uses only those before it:
#
#   source    the state of a read, code points, errors
#   tokens    keywords and symbols
#   strings   strings and characters
#   numbers   numbers
#   literals  the text of #inst and #uuid
#   keys      the limits on keys and members
#   parser    collections, tags, metadata

cimport cython
from cpython.buffer cimport PyBUF_FULL_RO, PyBuffer_IsContiguous, PyBuffer_Release, \
    PyObject_GetBuffer
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t
from libc.string cimport memcmp

from chansock._fast.io.cpython_api cimport new_ref

from chansock.errors import ConfigError
from chansock.values import List

include "source.pxi"
include "tokens.pxi"
include "strings.pxi"
include "numbers.pxi"
include "literals.pxi"
include "keys.pxi"
include "parser.pxi"

cdef enum:
    DEEPEST = 2000      # a level costs up to 700 bytes of C stack


@cython.final
cdef class Reader:
    """Reads edn from bytes. Options: what a keyword key becomes, tags, depth."""

    def __cinit__(self, keys="keyword", readers=None, int max_depth=MAX_DEPTH, bint tagged=True):
        if keys not in ("keyword", "string"):
            raise ConfigError(f"keys: expected 'keyword' or 'string', got {keys!r}")
        if not 1 <= max_depth <= DEEPEST:
            raise ConfigError(f"max_depth: expected 1 to {DEEPEST}, got {max_depth}")
        self.keyword_keys = keys == "keyword"
        self.readers = dict(readers) if readers else {}
        self.tagged = tagged
        self.max_depth = max_depth

    def decode(self, text):
        """Return the one form in text; raises EdnDecodeError if there is none, or more."""
        return _decode(self, text)

    def decode_one(self, buffer, Py_ssize_t pos=0):
        """Return the first form from pos on, and the offset behind it."""
        return _decode_one(self, buffer, pos)

    cdef Found read_pair(
        self, const uint8_t* data, Py_ssize_t size, int* length, PyObject** parts
    ) except READ_FAILED:
        cdef Source s
        cdef int c
        cdef object form
        self._open(&s, data, size)
        try:
            c = skip(&s)
            if c < 0:
                return NO_FORM
            if c == c'[' or c == c'(':
                length[0] = read_event(&s, c, parts)
                return PAIR
            form = read_form(&s, c)     # with metadata, or of a reader function
        finally:
            drop_source(&s)
        if form is None:
            form = ()
        elif not isinstance(form, (list, List)):
            return NO_PAIR
        length[0] = 0
        parts[0] = new_ref(form[0] if form else None)
        parts[1] = new_ref(None)
        parts[2] = new_ref(form[1] if len(form) > 1 else None)
        return PAIR

    cdef object read_from(
            self, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos, Py_ssize_t* end):
        cdef Source s
        cdef int c
        self._open(&s, data, size)
        if pos:
            s.pos = data + pos
        try:
            c = skip(&s)
            if c < 0:
                end[0] = -1
                return None
            value = read_form(&s, c)
            end[0] = s.pos - data
            return value
        finally:
            drop_source(&s)

    cdef void _open(self, Source* s, const uint8_t* data, Py_ssize_t size) noexcept:
        open_source(s, data, size, NULL)
        s.readers = <PyObject*>self.readers
        s.max_depth = self.max_depth
        s.keyword_keys = self.keyword_keys
        s.tagged = self.tagged
        if size >= 3 and memcmp(data, b"\xEF\xBB\xBF", 3) == 0:
            s.pos += 3      # a BOM; Clojure would make a symbol of it


cdef object _decode(Reader reader, object text):
    cdef Py_buffer view
    if isinstance(text, str):
        text = (<str>text).encode("utf-8", "surrogatepass")
    if type(text) is bytes:
        return _one_form(
            reader, <const uint8_t*>PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))
    _borrow(text, &view)
    try:
        return _one_form(reader, <const uint8_t*>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


cdef object _decode_one(Reader reader, object buffer, Py_ssize_t pos):
    cdef Py_ssize_t end = 0
    cdef Py_buffer view
    _borrow(buffer, &view)
    try:
        if not 0 <= pos <= view.len:
            raise ValueError(f"pos: expected 0 to {view.len}, got {pos}")
        value = reader.read_from(<const uint8_t*>view.buf, view.len, pos, &end)
        if end < 0:
            _nothing(reader, <const uint8_t*>view.buf, view.len, pos)
        return value, end
    finally:
        PyBuffer_Release(&view)


cdef int _borrow(object text, Py_buffer* view) except -1:
    PyObject_GetBuffer(text, view, PyBUF_FULL_RO)
    if (view.itemsize == 1 and PyBuffer_IsContiguous(view, c'C')
            and (view.format is NULL or view.format[0] in b"Bbc")):
        return 0
    what = f"items of format {(<bytes>view.format).decode()!r}" if view.itemsize != 1 or \
        view.format[0] not in b"Bbc" else "bytes with gaps between them"
    PyBuffer_Release(view)
    raise TypeError(f"expected contiguous bytes, got {type(text).__name__} of {what}")


cdef object _one_form(Reader reader, const uint8_t* data, Py_ssize_t size):
    cdef Py_ssize_t end = 0
    value = reader.read_from(data, size, 0, &end)
    if end < 0:
        _nothing(reader, data, size, 0)
    if end < size:
        _only_blank(reader, data, size, end)
    return value


cdef int _nothing(
        Reader reader, const uint8_t* data, Py_ssize_t size, Py_ssize_t at) except -1:
    cdef Source s
    reader._open(&s, data, size)
    return cut(&s, data + at, "expected a form, got nothing but whitespace: "
                              + shown(&s, data + at))


cdef int _only_blank(
        Reader reader, const uint8_t* data, Py_ssize_t size, Py_ssize_t pos) except -1:
    # Refuse another form from pos on.
    cdef Source s
    reader._open(&s, data, size)
    s.pos = data + pos
    try:
        if skip(&s) >= 0:
            if s.pos[0] == c'#' and s.pos + 1 == s.end:
                cut(&s, s.pos, "expected one form, got a '#' after it")
            fail(&s, s.pos, "expected one form, got text after it: " + shown(&s, s.pos))
    finally:
        drop_source(&s)
    return 0


# -- for Python --

cdef Reader PLAIN = Reader()


@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
def loads(text, *, keys="keyword", readers=None, max_depth=500):
    """
    Return the value of the one form in text.

    `readers` maps a tag to a function of the tagged value; without one, `#my/tag 1`
    is Tagged("my/tag", 1).
    Raises EdnDecodeError if text is no edn, UTF-8, or not exactly one form; EdnTruncated
    if more text could mend that.
    """
    if readers is None and max_depth == 500 and keys == "keyword":
        return _decode(PLAIN, text)
    return _decode(Reader(keys, readers, max_depth), text)


@cython.embedsignature(True)
@cython.embedsignature.format("clinic")
def read_one(buffer, Py_ssize_t pos=0, *, keys="keyword", readers=None, max_depth=500):
    """
    Return the value of the first form from byte pos on, and the offset behind it.

    Text behind the form is not looked at. A number, symbol or keyword that touches the end
    of the buffer is taken for whole, though it may go on.
    Raises EdnTruncated if more text is needed for a form, else EdnDecodeError.
    """
    if readers is None and max_depth == 500 and keys == "keyword":
        return _decode_one(PLAIN, buffer, pos)
    return _decode_one(Reader(keys, readers, max_depth), buffer, pos)
