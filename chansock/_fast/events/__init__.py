"""The channel's hot path: packet to event to handler to reply, and one event to many clients.

What lives here:

- `packet`, `msgpack_packet`: packets, and the packers of edn and MessagePack.
- `fanout`: outboxes, and the flush at the end of a turn.
- `dispatch`: the event of a packet, its handler, and the reply.
- `weight`, `brackets`: what a decoded value holds in memory; how deep a JSON text nests.
- `server_protocol`: one TCP connection: HTTP requests, then WebSocket frames.
- `echo`: a WebSocket that returns each message, for conformance suites.

What may not: users, sessions, presence, the checks of a connection. Modules here import any wing.
"""
