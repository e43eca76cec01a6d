# The answer to a WebSocket handshake.

cpdef bytes switch(bytes key)       # the 101; key: 24 bytes, as request_reader found them
