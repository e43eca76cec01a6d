# A WebSocket that answers each message with itself.
#
#   Protocol --take--> out --cork--> Protocol.send        up to 64 KiB
#            \--take--> Protocol.send_pair                what is larger

from libc.stdint cimport uint8_t
from chansock._fast.buffer cimport WriteBuffer
from chansock._fast.connection cimport Protocol
from chansock._fast.fanout cimport Link


cdef class Echo(Link):
    cdef Protocol protocol
    cdef WriteBuffer out            # of all echoes of a listener
    cdef bint is_gathering          # what stands in it is ours

    cdef int _send(self, const uint8_t* data, Py_ssize_t size) except -1
