# A part of http/request: the method, target, fields, and parameters in the bytes of a head.
#
# Each call searches the bytes, since a connection keeps its head for as long as it lives, and a few
# fields of a head are read, once each. Nothing here checks a head: see request_reader.

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_DecodeLatin1, PyUnicode_DecodeUTF8
from libc.stdint cimport uint8_t
from libc.string cimport memchr, memcmp

cdef extern from "http/fold.h":
    int differ "chansock_differ" (const char* a, const char* b, size_t size) noexcept nogil

cdef extern from "Python.h":
    bint PyUnicode_IS_ASCII(object text) noexcept
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL


cdef const char* _behind_line(const char* at, const char* end) noexcept:
    # Return the start of the next line, or NULL.
    while at < end:
        at = <const char*>memchr(at, 13, end - at)
        if at == NULL or at + 1 >= end:
            return NULL
        at += 1
        if at[0] == 10:
            return at + 1
    return NULL


# Find the next field of this name from the end of `line` on. Return where its value starts, without
# blanks around it, and set `stop` to where it ends. NULL: there is none.
cdef const char* find_field(
    const char* line, const char* end, const char* name, Py_ssize_t size, const char** stop
) noexcept:
    cdef const char* last
    while True:
        line = _behind_line(line, end)
        if line == NULL or end - line <= size:
            return NULL
        if line[size] == c":" and differ(line, name, size) == 0:
            break
    line += size + 1
    last = line
    while last < end and not (last[0] == 13 and last + 1 < end and last[1] == 10):
        last += 1
    while line < last and line[0] in b" \t":
        line += 1
    while line < last and (last - 1)[0] in b" \t":
        last -= 1
    stop[0] = last
    return line


cdef object _as_in_head(str name):
    # Return a name as it occurs in a head: itself if it is ASCII, else its bytes.
    return name if PyUnicode_IS_ASCII(name) else name.encode("latin-1", "replace")


cdef const char* _bytes_of(object spelled, Py_ssize_t* size) except NULL:
    if type(spelled) is bytes:
        size[0] = PyBytes_GET_SIZE(spelled)
        return PyBytes_AS_STRING(spelled)
    return PyUnicode_AsUTF8AndSize(spelled, size)


# Return the first value of a field, as latin-1.
cdef object field_value(bytes head, str name, object default):
    cdef Py_ssize_t size = 0
    cdef object spelled = _as_in_head(name)
    cdef const char* key = _bytes_of(spelled, &size)
    cdef const char* start = PyBytes_AS_STRING(head)
    cdef const char* stop = NULL
    cdef const char* found = find_field(start, start + PyBytes_GET_SIZE(head), key, size, &stop)
    return default if found == NULL else PyUnicode_DecodeLatin1(found, stop - found, NULL)


# Return all values of a field, in the order received.
cdef list field_values(bytes head, str name):
    cdef Py_ssize_t size = 0
    cdef object spelled = _as_in_head(name)
    cdef const char* key = _bytes_of(spelled, &size)
    cdef const char* at = PyBytes_AS_STRING(head)
    cdef const char* end = at + PyBytes_GET_SIZE(head)
    cdef const char* found
    cdef list result = []
    while True:
        found = find_field(at, end, key, size, &at)
        if found == NULL:
            return result
        result.append(PyUnicode_DecodeLatin1(found, at - found, NULL))


# Return the method; "" if there is no request line.
cdef object method_of(bytes head):
    cdef const char* start = PyBytes_AS_STRING(head)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(head)
    cdef const char* space
    if size > 4 and memcmp(start, b"GET ", 4) == 0:
        return "GET"
    space = <const char*>memchr(start, c" ", size)
    return "" if space == NULL else PyUnicode_DecodeLatin1(start, space - start, NULL)


# Return what is between the two blanks of the request line; b"" if there is none.
cdef bytes target_of(bytes head):
    cdef Py_ssize_t size = 0
    cdef const char* found = find_target(head, &size)
    return PyBytes_FromStringAndSize(found, size)


# Return where the target starts, and set its size; 0: there is none.
cdef const char* find_target(bytes head, Py_ssize_t* size) noexcept:
    cdef const char* start = PyBytes_AS_STRING(head)
    cdef const char* end = start + PyBytes_GET_SIZE(head)
    cdef const char* stop
    start = <const char*>memchr(start, c" ", end - start)
    if start == NULL:
        size[0] = 0
        return PyBytes_AS_STRING(head)
    start += 1
    stop = <const char*>memchr(start, c" ", end - start)
    size[0] = 0 if stop == NULL else stop - start
    return start


cdef struct Pairs:
    # Where a search of parameters is
    const char* at
    const char* end
    Py_ssize_t most                 # parameters still to look at
    const char* equals              # of the present one; its end, where there is none
    const char* stop                # its end


cdef const char* _next_pair(Pairs* pairs) noexcept:
    # Go to the next parameter that is not empty. NULL: there is none, or there were enough.
    cdef const char* start
    while pairs.at < pairs.end and pairs.most:
        start = pairs.at
        pairs.most -= 1
        pairs.stop = <const char*>memchr(start, c"&", pairs.end - start)
        if pairs.stop == NULL:
            pairs.stop = pairs.end
        pairs.at = pairs.stop + 1
        if pairs.stop > start:
            pairs.equals = <const char*>memchr(start, c"=", pairs.stop - start)
            if pairs.equals == NULL:
                pairs.equals = pairs.stop
            return start
    return NULL


cdef int _start(Pairs* pairs, bytes part, Py_ssize_t most) noexcept:
    pairs.at = PyBytes_AS_STRING(part)
    pairs.end = pairs.at + PyBytes_GET_SIZE(part)
    pairs.most = most
    return 0


cdef bytes _given(Pairs* pairs):
    if pairs.equals == pairs.stop:
        return b""
    return PyBytes_FromStringAndSize(pairs.equals + 1, pairs.stop - pairs.equals - 1)


cdef bint _is_spelling(const char* text, Py_ssize_t size, str name) except -1:
    # Return whether percent-encoded text is this name.
    cdef Py_ssize_t length = 0
    cdef Py_ssize_t k = 0
    cdef const char* letters
    if not PyUnicode_IS_ASCII(name):
        return decode_param(PyBytes_FromStringAndSize(text, size)) == name
    letters = PyUnicode_AsUTF8AndSize(name, &length)
    if not length <= size <= 3 * length:
        return False                # a peer's long names are not decoded for each one asked for
    while k < size and text[k] not in b"%+":
        k += 1
    if k == size:
        return size == length and memcmp(text, letters, length) == 0
    return _decode(text, size) == name


# Parameters of a query or a form, as sent. Past `most` of them the rest is ignored. The first
# function returns None if there is no parameter of this name.
cdef bytes first_param(bytes part, str name, Py_ssize_t most):
    cdef Pairs pairs
    cdef const char* start
    _start(&pairs, part, most)
    while True:
        start = _next_pair(&pairs)
        if start == NULL:
            return None
        if _is_spelling(start, pairs.equals - start, name):
            return _given(&pairs)


cdef list all_params(bytes part, str name, Py_ssize_t most):
    cdef Pairs pairs
    cdef const char* start
    cdef list found = []
    _start(&pairs, part, most)
    while True:
        start = _next_pair(&pairs)
        if start == NULL:
            return found
        if _is_spelling(start, pairs.equals - start, name):
            found.append(_given(&pairs))


cdef int add_param_names(dict into, bytes part, Py_ssize_t most) except -1:
    cdef Pairs pairs
    cdef const char* start
    _start(&pairs, part, most)
    while True:
        start = _next_pair(&pairs)
        if start == NULL:
            return 0
        into.setdefault(_decode(start, pairs.equals - start))


# Return the cookies by name, as sent but for quotes around a value; the first of a name counts.
cdef dict cookies_of(bytes head):
    cdef const char* at = PyBytes_AS_STRING(head)
    cdef const char* end = at + PyBytes_GET_SIZE(head)
    cdef const char* pair
    cdef const char* stop
    cdef const char* equals
    cdef const char* last
    cdef dict result = {}
    while True:
        pair = find_field(at, end, b"cookie", 6, &at)
        if pair == NULL:
            return result
        while pair < at:
            stop = <const char*>memchr(pair, c";", at - pair)
            if stop == NULL:
                stop = at
            equals = <const char*>memchr(pair, c"=", stop - pair)
            last = stop
            while pair < last and pair[0] in b" \t":
                pair += 1
            while pair < last and (last - 1)[0] in b" \t":
                last -= 1
            if equals != NULL:
                name = PyUnicode_DecodeLatin1(pair, equals - pair, NULL)
                if name not in result:
                    equals += 1
                    if last - equals > 1 and equals[0] == c'"' and (last - 1)[0] == c'"':
                        equals += 1
                        last -= 1
                    result[name] = PyUnicode_DecodeLatin1(equals, max(0, last - equals), NULL)
            pair = stop + 1


# Return a name or value as text: UTF-8, `+` is a space, a broken escape stays as it is.
cdef object decode_param(bytes text):
    return _decode(PyBytes_AS_STRING(text), PyBytes_GET_SIZE(text))


cdef object _decode(const char* text, Py_ssize_t size):
    if memchr(text, c"%", size) == NULL and memchr(text, c"+", size) == NULL:
        return PyUnicode_DecodeUTF8(text, size, "replace")
    return unquote_form(PyBytes_FromStringAndSize(text, size)).decode("utf-8", "replace")


cpdef bytes unquote_form(bytes text):
    """Decode a value of a form: `+` is a space, `%41` is A, a broken escape stays as it is.

    The standard library takes 0.3 s for a megabyte.
    """
    cdef Py_ssize_t size = PyBytes_GET_SIZE(text)
    cdef const uint8_t* at = <const uint8_t*>PyBytes_AS_STRING(text)
    cdef const uint8_t* end = at + size
    cdef bytes result = PyBytes_FromStringAndSize(NULL, size)
    cdef uint8_t* start = <uint8_t*>PyBytes_AS_STRING(result)
    cdef uint8_t* out = start
    while at < end:
        if at[0] == c"%" and end - at > 2 and hex_digit(at[1]) >= 0 and hex_digit(at[2]) >= 0:
            out[0] = <uint8_t>(hex_digit(at[1]) << 4 | hex_digit(at[2]))
            at += 3
        else:
            out[0] = c" " if at[0] == c"+" else at[0]
            at += 1
        out += 1
    return result[:out - start]


# Return the value of a hexadecimal digit; -1 if it is none.
cdef int hex_digit(uint8_t char) noexcept:
    if c"0" <= char <= c"9":
        return char - c"0"
    char |= 0x20
    return char - c"a" + 10 if c"a" <= char <= c"f" else -1


cdef bint asks_for(bytes head, bytes path):
    # Return whether the target is this path, letter by letter, with a query or without.
    cdef Py_ssize_t size = 0
    cdef const char* found = find_target(head, &size)
    cdef Py_ssize_t length = PyBytes_GET_SIZE(path)
    return (
        size >= length and memcmp(found, PyBytes_AS_STRING(path), length) == 0
        and (size == length or found[length] == c"?")
    )
