# A WebSocket that answers each message with itself.
#
#   Protocol --take--> Protocol.gather_reply; what agreed on deflating --take--> Protocol.write

from libc.stdint cimport uint8_t
from chansock._fast.events.server_protocol cimport Protocol
from chansock._fast.io.transport cimport Link


cdef class Echo(Link):
    cdef Protocol protocol
