"""edn: text to Python values and back.

What lives here:

- `reader`: text to values. Its parts: `source` (the text and where it is read), `tokens`,
  `strings`, `numbers`, `literals`, `keys` (the limit on hash collisions), and `parser`.
- `writer`: values to text. Its parts: `scalars` (the output buffer and the values of one token),
  `names`, `records` (dataclasses, enums, and other types), `encode_state`, and `values` (the walk
  through values, which the writer of MessagePack shares).

What may not: packets, events, sockets. Modules here import only `io`.
"""
