# A part of edn/writer and of msgpack/writer: which values both formats write, and how to walk
# through collections and records. The bytes of a value are not known here. Each of the two files
# defines them in functions of these names; those on the hot path are inline, so sharing costs
# nothing:
#
#   _leaf           write a common value at once; NULL: it takes more
#   _open_list, _open_map, _between, _close_list, _close_map
#   _quick_key      write a key that is known; NULL: it takes more
#   _before_key, _after_key, _name_key, _keyword_key, _pause_keys, _resume_keys
#   _string, _whole, _float, _keyword, _symbol, _character, _uuid, _moment, _set
#   _text           write a subclass of str
#   _own_type       write a type that only this format has; NULL: it is none
#   _decimal, _ratio, _unknown
#   _shown_text     return the text of a key for an error message
#
# The common values are leaves: exact types that are written without a call into Python, so they are
# neither held nor watched. All other values go through _entry and _member. All functions take `at`,
# at most at the output's end, and return the place behind what they put.

from datetime import datetime
from uuid import UUID

from cpython.object cimport PyObject, PyTypeObject
from libc.stdint cimport uint8_t

from chansock._fast.io.cpython_api cimport (
    PyDict_GET_SIZE, PyDict_Next, PyDict_Type, PyFloat_AS_DOUBLE, PyFloat_Type, PyList_Type,
    PyLong_Type, PySequence_Fast_GET_ITEM, PySequence_Fast_GET_SIZE, PyTuple_Type, PyUnicode_Type,
    Py_None, Py_TYPE)

from chansock.errors import EncodeError
from chansock.values import Char, FrozenDict, FrozenStrDict, Keyword, List, StrDict, Symbol

cdef PyTypeObject* KEYWORD_TYPE = <PyTypeObject*>Keyword
cdef PyTypeObject* STR_DICT = <PyTypeObject*>StrDict

cdef enum:
    ROOM = 4096         # bytes on the stack: most messages need no other

# Where a value is written.
cdef enum:
    VALUE = 0
    KEYWORD_KEY = 1     # a map key, and a plain str is a keyword there
    STRING_KEY = 2


cdef inline bint _is_name(object key) noexcept:
    return type(key) is str or type(key) is Keyword


cdef uint8_t* _value(EncodeState* w, uint8_t* at, PyObject* value) except NULL:
    cdef PyTypeObject* kind = Py_TYPE(value)
    cdef uint8_t* behind
    if at > w.output.end:
        at = grow(&w.output, at, 0)
    if kind == &PyDict_Type:
        return _map(w, at, value, w.keyword_keys)
    if kind == &PyList_Type or kind == &PyTuple_Type:
        return _members(w, at, value, False)
    behind = _leaf(w.output.end, at, value)
    if behind is not NULL:
        return behind
    if kind == &PyUnicode_Type:
        return _string(w, at, <object>value)
    if kind == &PyLong_Type:
        return _whole(w, at, <object>value, VALUE)
    if kind == &PyFloat_Type:
        return _float(w, at, PyFloat_AS_DOUBLE(value))
    if kind == KEYWORD_TYPE:
        return _keyword(w, at, <object>value)
    if kind == STR_DICT:
        return _map(w, at, value, False)
    return _other(w, at, <object>value, VALUE)


# -- collections --

cdef uint8_t* _map(
        EncodeState* w, uint8_t* at, PyObject* value, bint keyword_keys) except NULL:
    # Nothing is held while leaves are written: they cannot change the map.
    cdef Py_ssize_t place = 0, converted = 0, size = PyDict_GET_SIZE(value), left = size
    cdef Py_ssize_t marked = w.marked
    cdef PyObject* key = NULL
    cdef PyObject* item = NULL
    cdef uint8_t* behind
    cdef int first = 1          # 1 for the first entry, then 0
    cdef int key_place
    if w.is_careful and keyword_keys:
        keyword_keys = not has_text_keys(<dict>value)
    key_place = KEYWORD_KEY if keyword_keys else STRING_KEY
    at = _open_map(at, size)
    if size:
        enter(w)
    while PyDict_Next(value, &place, &key, &item):
        if at > w.output.end:
            at = grow(&w.output, at, 0)
        behind = _quick_key(w, at, key, keyword_keys, first)
        if behind is not NULL:
            at = behind
            behind = _leaf(w.output.end, at, item)
            if behind is NULL:
                behind = _entry(w, at, key, item, VALUE, &converted)
        else:
            behind = _entry(w, _before_key(at, first), key, item, key_place, &converted)
        at = behind
        first = 0
        left -= 1
        if left < 0 or PyDict_GET_SIZE(value) != size:
            break
    if left:
        raise RuntimeError("expected a dict to stay as it is while it is written")
    if at > w.output.end:
        at = grow(&w.output, at, 0)
    if size:
        if converted and size > 1:
            _distinct(w, marked, <object>value, key_place)
        w.marked = marked
        w.depth -= 1
    return _close_map(at)


cdef uint8_t* _entry(
        EncodeState* w, uint8_t* at, PyObject* key_, PyObject* item_, int key_place,
        Py_ssize_t* converted) except NULL:
    # This may call Python code. key_place VALUE: the key is written already.
    cdef object key = <object>key_, item = <object>item_    # held
    cdef Py_ssize_t before = w.converted, start
    cdef bint was_paused
    try:
        if key_place != VALUE:
            if _is_name(key):
                at = _key(w, at, key, key_place == KEYWORD_KEY)
            else:
                start = at - w.output.start
                was_paused = _pause_keys(w)
                at = _key(w, at, key, key_place == KEYWORD_KEY)
                _resume_keys(w, was_paused)
                converted[0] += w.converted - before
                mark(w, w.output.start + start, at)
            at = _after_key(at)
        return _value(w, at, <PyObject*>item)
    except EncodeError as error:
        lengthen(error, step(key))
        raise


cdef uint8_t* _key(EncodeState* w, uint8_t* at, object key, bint keyword_keys) except NULL:
    cdef object kind = type(key)
    cdef str trouble
    if kind is str:
        if keyword_keys:
            trouble = keyword_trouble(key)
            if trouble is not None:
                if not w.is_careful:
                    raise TextKey
                refuse_keyword(key, True, trouble)
        return _name_key(w, at, key, not keyword_keys)
    if kind is Keyword:
        return _keyword_key(w, at, key)
    if kind is int or kind is tuple:
        return _value(w, at, <PyObject*>key)
    return _other(w, at, key, KEYWORD_KEY if keyword_keys else STRING_KEY)


cdef uint8_t* _members(
        EncodeState* w, uint8_t* at, PyObject* members, bint is_list) except NULL:
    # Of a list or a tuple; is_list: of edn's `()`.
    cdef Py_ssize_t i, size = PySequence_Fast_GET_SIZE(members)
    cdef PyObject* member
    cdef uint8_t* behind
    at = _open_list(at, size, is_list)
    if size:
        enter(w)
        for i in range(size):
            if at > w.output.end:
                at = grow(&w.output, at, 0)
            at = _between(at, i)
            member = PySequence_Fast_GET_ITEM(members, i)
            behind = _leaf(w.output.end, at, member)
            if behind is NULL:
                behind = _member(w, at, member, i)
                if PySequence_Fast_GET_SIZE(members) != size:
                    raise RuntimeError("expected a list to stay as it is while it is written")
            at = behind
        if at > w.output.end:
            at = grow(&w.output, at, 0)
        w.depth -= 1
    return _close_list(at, is_list)


cdef uint8_t* _member(
        EncodeState* w, uint8_t* at, PyObject* member_, Py_ssize_t index) except NULL:
    cdef object member = <object>member_    # held
    try:
        return _value(w, at, <PyObject*>member)
    except EncodeError as error:
        lengthen(error, f"[{index}]")
        raise


cdef uint8_t* _set_members(
        EncodeState* w, uint8_t* at, object members, Py_ssize_t* count) except NULL:
    # Of a set that is not empty; `count` is set to how many there were.
    cdef Py_ssize_t converted = w.converted, marked = w.marked, start, i = 0
    cdef object member = None
    enter(w)
    try:
        for member in members:
            at = _between(at, i)
            start = at - w.output.start
            at = _value(w, at, <PyObject*>member)
            mark(w, w.output.start + start, at)
            i += 1
    except EncodeError as error:
        lengthen(error, step(member))
        raise
    if w.converted != converted and i > 1:
        _distinct(w, marked, (), VALUE)
    w.marked = marked
    w.depth -= 1
    count[0] = i
    return at


cdef int _distinct(EncodeState* w, Py_ssize_t marked, object keys, int place) except -1:
    # Compare the keys and members that are marked, and the names, which are not.
    cdef bytes text = find_duplicate(
        w, marked, [_alone(w, key, place) for key in keys if _is_name(key)])
    if text is not None:
        raise EncodeError(f"expected distinct keys or members, got {_shown_text(text)} again")
    return 0


cdef bytes _alone(EncodeState* like, object name, int place):
    # Return the text of one key, a name.
    cdef uint8_t[ROOM] memory
    cdef uint8_t* at = memory
    cdef EncodeState w
    open_state(&w, 0, like.max_depth, like.keyword_keys, like.default, memory, ROOM)
    w.is_careful = True
    try:
        at = _key(&w, at, name, place == KEYWORD_KEY)
    except BaseException:
        drop_state(&w)
        raise
    drop_marks(&w)
    return close_output(&w.output, at)


# -- the rarer types --

cdef uint8_t* _other(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    cdef object kind = type(value)
    cdef uint8_t* behind
    cdef Shape shape
    if kind is float or value is None or kind is bool:
        return _value(w, at, <PyObject*>value)
    if kind is Symbol:
        return _symbol(w, at, value)
    if kind is Char:
        return _character(w, at, value)
    if kind is List:
        return _members(w, at, <PyObject*>value, True)
    if kind is set or kind is frozenset:
        return _set(w, at, value)
    if kind is FrozenDict:
        return _map(w, at, <PyObject*>value, w.keyword_keys)
    if kind is StrDict or kind is FrozenStrDict:
        return _map(w, at, <PyObject*>value, False)
    if kind is UUID:
        return _uuid(w, at, value)
    if kind is datetime:
        return _moment(w, at, value, place)
    behind = _own_type(w, at, value, place)
    if behind is not NULL:
        return behind
    shape = shape_of(kind)
    if shape.kind == KIND_DECIMAL:
        return _decimal(w, at, value, place)
    if shape.kind == KIND_RATIO:
        return _ratio(w, at, value, place)
    if shape.kind == KIND_UNKNOWN:
        return _unknown(w, at, value, place)
    w.converted += 1
    return _based(w, at, value, shape, place)


cdef uint8_t* _based(
        EncodeState* w, uint8_t* at, object value, Shape shape, int place) except NULL:
    # A subclass as its base, an Enum as its value, a record as the map of its fields.
    cdef int kind = shape.kind
    if kind == KIND_ENUM:
        return _again(w, at, value.value, place)
    if kind == KIND_TEXT:
        return _text(w, at, value, place)
    if kind == KIND_WHOLE:
        return _whole(w, at, value, place)
    if kind == KIND_REAL:
        return _float(w, at, PyFloat_AS_DOUBLE(<PyObject*>value))
    if kind == KIND_MAP or kind == KIND_STRING_MAP:
        value = dict(value)     # an OrderedDict has an order of its own
        return _map(w, at, <PyObject*>value, w.keyword_keys and kind == KIND_MAP)
    if kind == KIND_SEQUENCE:
        return _members(w, at, <PyObject*>value, False)
    if kind == KIND_SET:
        return _set(w, at, value)
    if kind == KIND_MOMENT:
        return _moment(w, at, value, place)
    if kind == KIND_UUID:
        return _uuid(w, at, value)
    value = shape.fields(value)
    if shape.is_root:
        return _again(w, at, value, place)
    return _map(w, at, <PyObject*>value, True)      # field names, whatever keys= is


cdef uint8_t* _convert(
        EncodeState* w, uint8_t* at, object value, int place, str expected) except NULL:
    # Write what default= returns for a value that the format has no form for.
    if w.default == Py_None:
        raise EncodeError(f"expected {expected}{DEFAULT_HINT}, got {shown_value(value)}")
    return _again(w, at, (<object>w.default)(value), place)


cdef uint8_t* _again(EncodeState* w, uint8_t* at, object value, int place) except NULL:
    # Write a value that stands for another.
    hop(w, value)
    if place == VALUE:
        at = _value(w, at, <PyObject*>value)
    else:
        at = _key(w, at, value, place == KEYWORD_KEY)
    w.hops -= 1
    return at
