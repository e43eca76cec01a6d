#!lua flags=allow-oom
-- Give up a client if the node is still its home. ARGV: node, client, state, ms to keep it.
local record = string.sub(KEYS[1], 1, -2) .. 's:' .. ARGV[2]
if redis.call('HGET', record, 'n') ~= ARGV[1] then return 0 end
if ARGV[3] == '' then
  redis.call('DEL', record)
else
  redis.call('HDEL', record, 'n')
  redis.call('HSET', record, 'st', ARGV[3])
  redis.call('PEXPIRE', record, ARGV[4])
end
return 1
