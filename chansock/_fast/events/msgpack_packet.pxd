# The MessagePack packer: reader and writer behind the C method table of a packer.

cimport cython

from chansock._fast.msgpack.writer cimport MessagePackWriter
from chansock._fast.events.packet cimport Packer


@cython.final
cdef class MessagePackPacker(Packer):
    cdef readonly str keys
    cdef bint keyword_keys
    cdef MessagePackWriter writer
