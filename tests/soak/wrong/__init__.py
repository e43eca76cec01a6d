"""A soak of both clients against a server that misbehaves by chance; ci/soak.sh clients runs it.

`server` speaks Sente's wire wrongly, in one way (`ways`) for some seconds, then rightly for some
more. `client` and `client.mjs` are one client each, in a process of their own, and print what they
measure; `run` starts all and judges. The server knows RFC 6455 and 9112 by
tests/support/peer.py alone.
"""
