#!lua flags=allow-oom
--@ presence
-- Renew the lease of a node; clear up after one whose lease has ended.
-- ARGV: sender, node, epoch, highest seq seen, lease ms, grace ms
-- Returns {1, seq, node that was cleared or '', is settling}, or {-2: join first}, {-3: is dead}.
if epoch ~= ARGV[3] or seq < tonumber(ARGV[4]) then return {-2} end
local node = ARGV[2]
if redis.call('EXISTS', P .. 'd:' .. node) == 1 then return {-3} end
local lease, grace = tonumber(ARGV[5]), tonumber(ARGV[6])
local h = redis.call('HMGET', l, 'b', 'h')
local from = tonumber(h[2] or 0)
if now - tonumber(h[1] or 0) > lease then
  -- No node was heard, so that the engine was away: all get their time to be heard.
  from = now + lease + grace
  redis.call('HSET', l, 'h', from)
end
redis.call('HSET', l, 'b', now)
redis.call('ZADD', P .. 'nodes', now + lease, node)
redis.call('PEXPIRE', P .. 'b:' .. ARGV[1], 86400000)
local ended = ''
if now >= from then
  local found = redis.call('ZRANGEBYSCORE', P .. 'nodes', '-inf', now - grace, 'LIMIT', 0, 1)
  if #found > 0 then
    ended = found[1]
    clear(ended)
    redis.call('SET', P .. 'd:' .. ended, 1, 'PX', 86400000)
    finish(node)
  end
end
return {1, seq, ended, is_settling and 1 or 0}
