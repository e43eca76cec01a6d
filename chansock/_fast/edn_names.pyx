# Names to edn: keywords, symbols and tags. Each is checked, so that it reads as one form; a
# keyword's name only once while it is known.

from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcmp, memcpy

from chansock._fast.borrowed cimport PyUnicode_DATA, PyUnicode_GET_LENGTH, is_ascii
from chansock._fast.edn_source cimport IN_TOKEN, KIND, is_high_blank
from chansock._fast.edn_spelling cimport CHSK_READY, Sheet, shown_value, write_text
from chansock._fast.edn_tokens cimport fault_text, name_fault

from chansock.errors import EdnEncodeError
from chansock.values import Keyword

cdef extern from "Python.h":
    int PyUnicode_KIND(object text) noexcept
    uint32_t PyUnicode_READ(int kind, void* data, Py_ssize_t index) noexcept
    const char* PyUnicode_AsUTF8AndSize(object text, Py_ssize_t* size) except NULL
    bint Py_UNICODE_ISDECIMAL(uint32_t point) noexcept
    Py_hash_t PyObject_Hash(object value) except -1

cdef enum:
    LONGEST_KNOWN = 256     # characters

cdef int NEXT_WAY = 0


# -- the rules --

cdef str _name_trouble(object name, bint is_symbol):
    # Why edn has no such name; None: it has. Stricter than the reader, which must take
    # what others write: only what Clojure, tools.reader and ClojureScript all read.
    cdef Py_ssize_t i, size = PyUnicode_GET_LENGTH(<PyObject*>name)
    cdef int kind = PyUnicode_KIND(name), fault
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


cdef bint _is_plain(const uint8_t* text, Py_ssize_t size) noexcept:
    # ASCII without a colon and with at most one slash, that is well placed: most names.
    cdef Py_ssize_t i, slash = -1
    for i in range(size):
        if KIND[text[i]] != IN_TOKEN or text[i] < 0x20 or text[i] == 0x7F or text[i] == c':':
            return False
        if text[i] == c'/':
            if slash >= 0:
                return False
            slash = i
    if slash < 0:
        return size > 0
    return 0 < slash < size - 1 and not c'0' <= text[slash + 1] <= c'9'


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
    # In the place of another, in turn, where all four are taken.
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
    Py_INCREF(name)
    entry.name = <PyObject*>name
    entry.size = 0
    if size + 4 <= LONGEST_TEXT:
        memcpy(entry.text, b", :", 3)
        memcpy(entry.text + 3, text, <size_t>size)
        entry.text[size + 3] = c' '
        entry.size = <uint32_t>size + 4
    Py_XDECREF(old)
    return 0


# -- writing --

cdef int _check_keyword(object name, bint is_key) except -1:
    cdef str what, trouble
    CHSK_READY(name)
    if is_ascii(<PyObject*>name) and _is_plain(
            <const uint8_t*>PyUnicode_DATA(<PyObject*>name),
            PyUnicode_GET_LENGTH(<PyObject*>name)):
        return 0
    trouble = _name_trouble(name, False)
    if trouble is None:
        return 0
    what = "a keyword's name as map key (StrDict writes strings)" if is_key else "a keyword's name"
    raise EdnEncodeError(f"expected {what}, got {shown_value(name)}: {trouble}")


cdef uint8_t* write_keyword(Sheet* sheet, uint8_t* at, object name, bint is_key) except NULL:
    # Another subclass may hash and compare as it likes, so it never meets the table.
    cdef Known* entry
    if type(name) is not str and type(name) is not Keyword:
        _check_keyword(name, is_key)
    else:
        PyObject_Hash(name)     # which is then in it
        entry = known(<PyObject*>name)
        if entry is NULL:
            _check_keyword(name, is_key)
            _learn(name)
        elif entry.size:
            memcpy(at, entry.text + 2, LONGEST_TEXT)
            return at + entry.size - 3
    at[0] = c':'
    return write_text(sheet, at + 1, name)


cdef uint8_t* write_symbol(Sheet* sheet, uint8_t* at, object name) except NULL:
    cdef str trouble
    CHSK_READY(name)
    trouble = _name_trouble(name, True)
    if trouble is not None:
        raise EdnEncodeError(f"expected a symbol's name, got {shown_value(name)}: {trouble}")
    return write_text(sheet, at, name)


cdef uint8_t* write_tag(Sheet* sheet, uint8_t* at, object tag) except NULL:
    # With its `#`. Clojure's reader wants a Latin-1 letter first.
    cdef str trouble
    if not isinstance(tag, str):
        raise EdnEncodeError(f"expected a str as tag, got {shown_value(tag)}")
    CHSK_READY(tag)
    trouble = _name_trouble(tag, True)
    if trouble is None and not (ord(tag[0]) < 256 and tag[0].isalpha()):
        trouble = "it begins with no letter"
    if trouble is not None:
        raise EdnEncodeError(f"expected a tag, got {shown_value(tag)}: {trouble}")
    at[0] = c'#'
    return write_text(sheet, at + 1, tag)
