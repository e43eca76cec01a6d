"""MessagePack: bytes to Python values and back.

What lives here:

- `reader`: bytes to values. Its part `extensions`: those of Sente's extensions that hold no values.
- `writer`: values to bytes. Its parts: `scalars`, `keys`, and `values` of `edn`.

Keywords, records, and limits are those of edn: modules here import `edn` and `io`, no other wing.
What may not be here: packets, events, sockets.
"""
