"""The engine for several processes: Redis 7 or later, or Valkey 7.2 or later.

    address    URL and options to an address, by redis-py
    link       one connection in RESP3; hiredis reads it
    scripts    the Lua scripts, which are where order, counts, and leases are kept
    outbox     what was appended and is not known to be stored, or was lately
    presence   the members that are present, as this node knows them
    connecting the steps from an address to a connection that is joined, and what can be wrong
    engine     Redis, which puts them together

Keys begin with `chsk:{name}:`; the scripts say what each holds.
"""

from chansock.backplanes.redis.engine import Redis
from chansock.backplanes.redis.stats import RedisStats

__all__ = ["Redis", "RedisStats"]
