#!lua flags=allow-oom
-- Try each command that the other scripts use; return what is refused. ARGV: keys to use.
local P = string.sub(KEYS[1], 1, -2)
local h, s, z, t, v = P .. 'check:h', P .. 'check:s', P .. 'check:z', P .. 'check:t', P .. 'check:v'
local refused = {}
for _, command in ipairs({
  {'TIME'}, {'HSET', h, 'a', 1}, {'HGET', h, 'a'}, {'HMGET', h, 'a'}, {'HINCRBY', h, 'a', 1},
  {'HEXISTS', h, 'a'}, {'HKEYS', h}, {'HDEL', h, 'a'}, {'SADD', s, 'a'}, {'SMEMBERS', s},
  {'SREM', s, 'a'}, {'ZADD', z, 1, 'a'}, {'ZSCORE', z, 'a'},
  {'ZRANGEBYSCORE', z, '-inf', 0, 'LIMIT', 0, 1}, {'ZREM', z, 'a'}, {'RPUSH', t, 'a'},
  {'LLEN', t}, {'LRANGE', t, 0, -1}, {'LTRIM', t, 0, -1}, {'PEXPIRE', t, 1000},
  {'SET', v, 1, 'PX', 1000}, {'GET', v}, {'EXISTS', v}, {'DEL', h, s, z, t, v},
  {'PUBLISH', P .. 'p', ''},
}) do
  local reply = redis.pcall(unpack(command))
  if type(reply) == 'table' and reply.err then
    refused[#refused + 1] = command[1] .. ': ' .. reply.err
  end
end
return refused
