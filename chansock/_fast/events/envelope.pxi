# Envelopes as an engine passes them on: `_core/envelope` describes their bytes. What is read is
# bounded, since others may write to an engine as well.


cdef enum:
    KEPT = 1                    # flags
    FLUSH = 2
    CLOSE = 4


cdef struct Source:
    const uint8_t* at
    const uint8_t* end


cdef uint8_t _read_byte(Source* source) except? 0:
    cdef uint8_t byte
    if source.at == source.end:
        raise ValueError("expected more bytes, got the end")
    byte = source.at[0]
    source.at += 1
    return byte


cdef Py_ssize_t _read_number(Source* source) except -1:
    cdef int64_t number = 0
    cdef int shift
    cdef uint8_t byte
    for shift in range(0, 63, 7):
        byte = _read_byte(source)
        number |= <int64_t>(byte & 0x7F) << shift
        if byte < 0x80:
            return number
    raise ValueError("expected a number below 2^63, got more")


cdef Py_ssize_t _read_size(Source* source) except -1:
    # Return a length that what follows has.
    cdef Py_ssize_t size = _read_number(source)
    if size > source.end - source.at:
        raise ValueError(f"expected {size} bytes, got {source.end - source.at}")
    return size


cdef str _read_text(Source* source):
    cdef Py_ssize_t size = _read_size(source)
    source.at += size
    if size == 0:
        return ""
    return PyUnicode_DecodeUTF8(<const char*>source.at - size, size, "surrogatepass")


cdef Fragment _read_event(Source* source, bint is_kept):
    cdef object latest = None
    cdef str key = _read_text(source)
    cdef Py_ssize_t size
    if key:
        try:
            latest = _hashable(loads(key))
            hash(latest)
        except (ValueError, TypeError) as error:
            raise ValueError(f"expected a key in edn: {error}") from None
    size = _read_size(source)
    source.at += size
    return Fragment(PyBytes_FromStringAndSize(<const char*>source.at - size, size), latest, is_kept)


cdef object _hashable(object value):
    # Return a key as it was: edn writes a tuple as a vector, and reads a list.
    if type(value) is list:
        return tuple([_hashable(item) for item in <list>value])
    return value


def read_envelope(bytes data not None, int version, str packer not None):
    """Return (origin, only, skip, flags, close, events) of an envelope.

    Raises ValueError for anything else: another version or packer, too few or too many bytes, a
    text that is no UTF-8, a key that is no edn.
    """
    cdef Source source
    cdef uint8_t found, flags
    cdef Py_ssize_t count
    cdef list events = []
    source.at = <const uint8_t*>PyBytes_AS_STRING(data)
    source.end = source.at + PyBytes_GET_SIZE(data)
    found, flags = _read_byte(&source), _read_byte(&source)
    if found != version or flags > KEPT | FLUSH | CLOSE:
        raise ValueError(f"expected an envelope of version {version}, got {found}")
    name = _read_text(&source)
    origin, only, skip = _read_text(&source), _read_text(&source), _read_text(&source)
    if name != packer:
        raise ValueError(f"expected an envelope of the packer {packer}, got {name:.80}")
    close = (_read_number(&source), _read_text(&source)) if flags & CLOSE else None
    count = _read_number(&source)
    if count > source.end - source.at:
        raise ValueError(f"expected at most {source.end - source.at} events, got {count}")
    for _ in range(count):
        events.append(_read_event(&source, flags & KEPT))
    if source.at != source.end:
        raise ValueError(f"expected the end, got {source.end - source.at} bytes more")
    return origin, only, skip, flags, close, tuple(events)
