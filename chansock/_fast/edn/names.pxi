# A part of edn/writer: keywords, symbols, and tags. Each name is checked, so that it reads as one
# form; a keyword's name is checked only once while it is known.

from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from chansock._fast.io.cpython_api cimport (
    PyObject_Hash, PyUnicode_AsUTF8AndSize, PyUnicode_DATA, PyUnicode_GET_LENGTH, PyUnicode_KIND,
    PyUnicode_READ, Py_UNICODE_ISDECIMAL, hash_of_text, is_ascii, make_ready, new_ref, xdecref)
from chansock._fast.edn.reader cimport (
    IN_TOKEN, KIND, fault_text, is_high_blank, is_plain, name_fault)

from chansock.errors import EncodeError
from chansock.values import Keyword

cdef enum:
    LONGEST_KNOWN = 256     # characters

cdef int NEXT_WAY = 0


# -- the rules --

cdef str _name_trouble(object name, bint is_symbol):
    # Return why edn has no such name; None: it has. The rules are stricter than the reader's, which
    # accepts what other programs write: Clojure, tools.reader, and ClojureScript all read the name.
    cdef Py_ssize_t i, size = PyUnicode_GET_LENGTH(<PyObject*>name)
    cdef int kind = PyUnicode_KIND(<PyObject*>name), fault
    cdef void* data = PyUnicode_DATA(<PyObject*>name)
    cdef const uint8_t* text
    cdef uint32_t point, before = c'/'
    for i in range(size):
        point = PyUnicode_READ(kind, data, i)
        if (point < 0x80 and KIND[point] != IN_TOKEN or point < 0x20 or 0x7F <= point <= 0xA0
                or 0xD800 <= point <= 0xDFFF or point == 0xFEFF or point == 0x2007
                or point == 0x202F or is_high_blank(<int>point)):
            return f"it has a {chr(point)!r}"
        if before == c'/' and i and Py_UNICODE_ISDECIMAL(point):
            return "a digit follows its slash"
        before = point
    text = <const uint8_t*>PyUnicode_AsUTF8AndSize(name, &size)
    fault = name_fault(text, size)
    if fault:
        return fault_text(fault)
    if is_symbol:
        if name == "nil" or name == "true" or name == "false":
            return "it is a constant"
        point = PyUnicode_READ(kind, data, 0)
        if (point == c'+' or point == c'-') and size > 1:
            point = PyUnicode_READ(kind, data, 1)
        if Py_UNICODE_ISDECIMAL(point):
            return "it begins like a number"
        if text[0] == c'#':
            return "it begins with '#'"
    return None


# -- the names that are known --

cdef Known* known_text(Known* entry, PyObject* name) noexcept:
    cdef int _way
    cdef Py_ssize_t size
    cdef void* text
    if not is_ascii(name):
        return NULL
    text = PyUnicode_DATA(name)
    size = PyUnicode_GET_LENGTH(name)
    for _way in range(WAYS):
        if entry.name is NULL:
            break
        if entry.size:
            if (entry.size == <size_t>size + 4
                    and memcmp(text, entry.text + 3, <size_t>size) == 0):
                return entry
        elif (PyUnicode_GET_LENGTH(entry.name) == size and is_ascii(entry.name)
                and memcmp(text, PyUnicode_DATA(entry.name), <size_t>size) == 0):
            return entry
        entry += 1
    return NULL


cdef int _learn(object name) except -1:
    # If all four places are taken, replace one of them, in turn.
    global NEXT_WAY
    cdef Known* entry = &KNOWN[(<size_t>PyObject_Hash(name) & (SETS - 1)) * WAYS]
    cdef PyObject* old
    cdef Py_ssize_t size = 0
    cdef const char* text
    cdef int way
    if len(name) > LONGEST_KNOWN:
        return 0
    text = PyUnicode_AsUTF8AndSize(name, &size)
    for way in range(WAYS):
        if entry[way].name is NULL:
            break
    else:
        NEXT_WAY = (NEXT_WAY + 1) % WAYS
        way = NEXT_WAY
    entry += way
    old = entry.name
    entry.name = new_ref(name)
    entry.size = 0
    if size + 4 <= LONGEST_TEXT:
        memcpy(entry.text, b", :", 3)
        memcpy(entry.text + 3, text, <size_t>size)
        entry.text[size + 3] = c' '
        entry.size = <uint32_t>size + 4
    xdecref(old)
    return 0


# -- writing --

cdef str keyword_trouble(object name):
    # A subclass may define its own hash and comparison, so it is never looked up in the table.
    cdef bint is_own = type(name) is str or type(name) is Keyword
    cdef str trouble
    make_ready(name)
    if is_own:
        PyObject_Hash(name)     # `known` reads the hash that this call stores
        if known(<PyObject*>name) is not NULL:
            return None
    if is_ascii(<PyObject*>name) and is_plain(
            <const uint8_t*>PyUnicode_DATA(<PyObject*>name),
            PyUnicode_GET_LENGTH(<PyObject*>name)):
        trouble = None
    else:
        trouble = _name_trouble(name, False)
    if trouble is None and is_own:
        _learn(name)
    return trouble


cdef int refuse_keyword(object name, bint is_key, str trouble) except -1:
    cdef str what = "a keyword's name"
    if is_key:
        what += " as map key (StrDict writes strings)"
    raise EncodeError(f"expected {what}, got {shown_value(name)}: {trouble}")


cdef uint8_t* write_keyword(
        OutputBuffer* output, uint8_t* at, object name, bint is_key) except NULL:
    cdef str trouble = keyword_trouble(name)
    if trouble is not None:
        refuse_keyword(name, is_key, trouble)
    return put_keyword(output, at, name)


cdef uint8_t* put_keyword(OutputBuffer* output, uint8_t* at, object name) except NULL:
    # The name was checked.
    cdef Known* entry
    if type(name) is str or type(name) is Keyword:
        entry = known(<PyObject*>name)
        if entry is not NULL and entry.size:
            memcpy(at, entry.text + 2, LONGEST_TEXT)
            return at + entry.size - 3
    at[0] = c':'
    return write_text(output, at + 1, name)


cdef uint8_t* write_symbol(OutputBuffer* output, uint8_t* at, object name) except NULL:
    cdef str trouble
    make_ready(name)
    trouble = _name_trouble(name, True)
    if trouble is not None:
        raise EncodeError(f"expected a symbol's name, got {shown_value(name)}: {trouble}")
    return write_text(output, at, name)


cdef uint8_t* write_tag(OutputBuffer* output, uint8_t* at, object tag) except NULL:
    # With its `#`. Clojure's reader wants a Latin-1 letter first.
    cdef str trouble
    if not isinstance(tag, str):
        raise EncodeError(f"expected a str as tag, got {shown_value(tag)}")
    make_ready(tag)
    trouble = _name_trouble(tag, True)
    if trouble is None and not (ord(tag[0]) < 256 and tag[0].isalpha()):
        trouble = "it begins with no letter"
    if trouble is not None:
        raise EncodeError(f"expected a tag, got {shown_value(tag)}: {trouble}")
    at[0] = c'#'
    return write_text(output, at + 1, tag)


# -- keys that are text --

class TextKey(Exception):
    """A map has a str key that is not the name of a keyword, so the writer starts again.

    If one of a map's plain str keys is not the name of a keyword, the map gets strings as keys.
    Few maps do, so the writer checks the keys of each map beforehand only after it met such a
    key. It then writes the whole value again; so it writes a value at most twice, however deep
    the maps nest.
    """


cdef bint has_text_keys(dict value) except -1:
    cdef bint found = False
    for key in value:
        if type(key) is not str:
            return False
        found = found or keyword_trouble(key) is not None
    return found
