"""WebSocket: frames (RFC 6455) and their compression (RFC 7692).

What lives here: `frames`, the parser and the bytes of frames, with two parts:

- `deflate`: permessage-deflate.
- `accept`: the answer to a handshake.

What may not: a socket, HTTP parsing, packets. Modules here import only `io`.
"""
