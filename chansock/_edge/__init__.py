"""What several edges share: between the sockets or requests of an edge and the core.

Here live connections that chansock owns or takes over (`sockets`), requests that a framework
passes on one by one (`answers`), HTTP/1.1 answers as bytes (`http1`), the fields of proxies
(`forwarded`), the negotiation of WebSocket extensions (`extensions`), the browser's client as
a file (`browser`), and the check that a channel in several
processes has a backplane (`processes`).

Not here: what only one edge needs, and any decision about users, sessions, or events. No
module of `_edge` imports an edge, such as `chansock.server` or `chansock.aiohttp`.
"""
