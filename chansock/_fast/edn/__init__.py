"""edn: text to Python values and back.

What lives here:

- The reader: `source` (the text and where it is read), `tokens`, `strings`, `numbers`, `literals`,
  `keys` (the limit on hash collisions), `parser`, and `reader` with the public classes.
- The writer: `scalars` (the output buffer and the values of one token), `names`, `records`
  (dataclasses, enums, and other types), `encode_state`, and `writer` with the public classes.

What may not: packets, events, sockets. Modules here import only `io`.
"""
