#!lua flags=allow-oom
-- Make a node the home of a client. ARGV: node, client, ms that the record lives.
-- Returns the node that was its home and lives, or '', and what the last home left: that stays
-- until a home has opened the client, for this answer may be lost. Then 1 if another node was its
-- home last, even if that is dead.
local P = string.sub(KEYS[1], 1, -2)
local record = P .. 's:' .. ARGV[2]
local h = redis.call('HMGET', record, 'n', 'st')
redis.call('HSET', record, 'n', ARGV[1])
redis.call('PEXPIRE', record, ARGV[3])
local before = ''
if h[1] then
  local time = redis.call('TIME')
  local ends = redis.call('ZSCORE', P .. 'nodes', h[1])
  if ends and tonumber(ends) >= time[1] * 1000 + math.floor(time[2] / 1000) then before = h[1] end
end
local has_moved = h[1] and h[1] ~= ARGV[1] or not h[1] and h[2]
return {before, h[2] or '', has_moved and 1 or 0}
