#!lua flags=allow-oom
--@ reading
-- Make a node the home of some clients, and read what they have missed.
-- ARGV: node, ms that a record lives, keep_events, keep ms, then for each client: its name, epoch
-- and seq of its position ('': none), the number of its keys, and these.
-- Returns {epoch, seq}, then for each client: the node that was its home and lives, or '', and what
-- the last home left: that stays until a home has opened the client, for this answer may be lost.
-- Then 1 if another node was its home last, even if that is dead, and what `read` appends.
local node, lives, max, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local out = {epoch, seq}
local i = 5
while i <= #ARGV do
  local record, upto = P .. 's:' .. ARGV[i], i + 3 + tonumber(ARGV[i + 3])
  local r = redis.call('HMGET', record, 'n', 'st')
  redis.call('HSET', record, 'n', node)
  redis.call('PEXPIRE', record, lives)
  local before = ''
  if r[1] then
    local ends = redis.call('ZSCORE', P .. 'nodes', r[1])
    if ends and tonumber(ends) >= now then before = r[1] end
  end
  local has_moved = r[1] and r[1] ~= node or not r[1] and r[2]
  local found = {before, r[2] or '', has_moved and 1 or 0}
  if ARGV[i + 1] ~= '' then
    read(found, false, ARGV[i + 1], tonumber(ARGV[i + 2]), max, keep, i + 4, upto)
  end
  out[#out + 1] = found
  i = upto + 1
end
return out
