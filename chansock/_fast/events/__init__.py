"""The channel's hot path: packet to event to handler to reply, and one event to many clients.

What lives here:

- `packet`, `msgpack_packet`: packets, and the packers of edn and MessagePack.
- `fanout`: outboxes, and the flush at the end of a turn. Its parts `turn` and `envelope`: events on
  their way between the processes of one channel, as bytes.
- `dispatch`: the event of a packet, its handler, and the reply. Its part `weight`: what a decoded
  value holds in memory.
- `server_protocol`: one TCP connection: HTTP requests, then WebSocket frames. Its part `echo`: a
  WebSocket that returns each message, for conformance suites.

What may not: users, sessions, presence, the checks of a connection. Modules here import any wing.
"""
