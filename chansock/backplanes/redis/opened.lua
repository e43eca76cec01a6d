#!lua flags=allow-oom
-- Drop what the last home of a client left: this node, its home, has opened it. ARGV: node, client.
local record = string.sub(KEYS[1], 1, -2) .. 's:' .. ARGV[2]
if redis.call('HGET', record, 'n') ~= ARGV[1] then return 0 end
return redis.call('HDEL', record, 'st', 'o')
