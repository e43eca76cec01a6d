"""The core: who is connected, what happens to their sessions, and who may come in.

Here live the table of sessions and their life (`hub`, `session`, `session_state`,
`session_table`, `presence`, `keep_alive`), the way from a send to the outboxes (`delivery`),
admission (`endpoint`, `guard`), POSTs in their order (`posts`), the handlers and the types of
their data, and the rules and words of events (`event`, `wire`).

Not here: a socket, an event loop, a framework, or the bytes of an HTTP answer. Time comes from
a TimerQueue, bytes go to a Transport. A module of the core imports nothing of `_edge`.
"""
