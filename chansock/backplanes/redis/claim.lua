#!lua flags=allow-oom
--@ reading
-- Make a node the home of some clients, and read what they have missed.
-- ARGV: node, ms that a record lives, keep_events, keep ms, then for each client: its name, epoch
-- and seq of its position ('': none), the number of its keys, and these.
-- Returns {epoch, seq}, then for each client: the node that was its home and lives, or '', and what
-- the last home left: that stays until a home has opened the client, for this answer may be lost.
-- Then 1 if another node was its home last, even if that is dead; the older nodes that may have
-- opened it and live, newest first, with commas; 1 if that list ends at a dead one; and what `read`
-- appends.
-- A record has `n`, the home; `st`, what the last home left; and `o`, the nodes that claimed the
-- client since and never reported that they opened it. `?` there: there were more.
local node, lives, max, keep = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local out = {epoch, seq}
local i = 5
while i <= #ARGV do
  local record, upto = P .. 's:' .. ARGV[i], i + 3 + tonumber(ARGV[i + 3])
  local r = redis.call('HMGET', record, 'n', 'st', 'o')
  local older, kept = {}, {}
  if r[1] and r[1] ~= node then older[1] = r[1] end
  if r[3] then
    for each in string.gmatch(r[3], '[^,]+') do
      if each ~= r[1] then older[#older + 1] = each end
    end
    if #older > 8 then older = {unpack(older, 1, 7)}; older[8] = '?' end
  end
  for _, each in ipairs(older) do
    if each ~= node then kept[#kept + 1] = each end
  end
  redis.call('HSET', record, 'n', node)
  if #kept > 0 then
    redis.call('HSET', record, 'o', table.concat(kept, ','))
  elseif r[3] then
    redis.call('HDEL', record, 'o')
  end
  redis.call('PEXPIRE', record, lives)
  local before, living, has_dead = '', {}, 0
  if r[1] == node then before = node end
  for _, each in ipairs(older) do
    local ends = redis.call('ZSCORE', P .. 'nodes', each)
    if not ends or tonumber(ends) < now then
      has_dead = 1
      break
    end
    if each == r[1] then
      before = each
    else
      living[#living + 1] = each
    end
  end
  local has_moved = r[1] and r[1] ~= node or not r[1] and r[2]
  local found = {before, r[2] or '', has_moved and 1 or 0, table.concat(living, ','), has_dead}
  if ARGV[i + 1] ~= '' then
    read(found, false, ARGV[i + 1], tonumber(ARGV[i + 2]), max, keep, i + 4, upto)
  end
  out[#out + 1] = found
  i = upto + 1
end
return out
