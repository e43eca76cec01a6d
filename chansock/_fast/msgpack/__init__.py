"""MessagePack: bytes to Python values and back.

What lives here:

- The reader: `extensions` and `reader`.
- The writer: `scalars`, `keys`, and `writer`.

Keywords, records, and limits are those of edn: modules here import `edn` and `io`, no other wing.
What may not be here: packets, events, sockets.
"""
