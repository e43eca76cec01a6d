#!lua flags=no-writes
-- Return the node that is the home of a client and lives, or ''. ARGV: client.
local P = string.sub(KEYS[1], 1, -2)
local node = redis.call('HGET', P .. 's:' .. ARGV[1], 'n')
if not node then return '' end
local time = redis.call('TIME')
local ends = redis.call('ZSCORE', P .. 'nodes', node)
if ends and tonumber(ends) >= time[1] * 1000 + math.floor(time[2] / 1000) then return node end
return ''
