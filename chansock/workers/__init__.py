"""Several worker processes of one host: who starts, replaces, and ends them.

`supervisor` runs in the parent, `child` starts one process, `listen` makes the sockets that all
share, `private_engine` runs the Redis or Valkey that joins them, and `report` is what a worker
says to its parent. The parent serves nobody: no channel, loop, or thread lives here.
"""
