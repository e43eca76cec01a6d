"""Bytes in and out, timers, and coroutines. No protocol.

What lives here:

- `buffer`: growing buffers, and borrowed windows on memory.
- `transport`: the two interfaces between an edge and what it serves, Transport and Link; the limit
  on bytes that have arrived and are not handled.
- `socket`, `epoll`: one asyncio transport; plain TCP connections on Linux.
- `timers`: what is due when.
- `tasks`: coroutines and generators that start without a task.
- `cpython_api`, `flag`: C declarations that all wings share.

What may not: HTTP, WebSocket frames, edn, events, users. Modules here import no other wing.
"""
