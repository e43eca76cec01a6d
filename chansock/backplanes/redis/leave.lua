#!lua flags=allow-oom
--@ presence
-- A node leaves, with its members. ARGV: sender, node.
clear(ARGV[2])
redis.call('PEXPIRE', P .. 'b:' .. ARGV[1], 60000)
finish(ARGV[2])
return 1
