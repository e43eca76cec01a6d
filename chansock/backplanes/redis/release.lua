#!lua flags=allow-oom
-- Give up clients whose home a node still is.
-- ARGV: node, ms to keep states, then client and state of each.
local P = string.sub(KEYS[1], 1, -2)
for i = 3, #ARGV, 2 do
  local record = P .. 's:' .. ARGV[i]
  if redis.call('HGET', record, 'n') == ARGV[1] then
    if ARGV[i + 1] == '' then
      redis.call('DEL', record)
    else
      redis.call('HDEL', record, 'n', 'o')
      redis.call('HSET', record, 'st', ARGV[i + 1])
      redis.call('PEXPIRE', record, ARGV[2])
    end
  end
end
return 1
