#!lua
-- Append the items of one node, publish them, and note how far its numbers are: all or nothing.
-- ARGV: sender, origin, number of the first item, epoch, highest seq seen, keep_events, keep ms
-- (with a + in front: the logs of all items get their full time again),
-- again (0: first time, 1: sent in the epoch before and never since, 2: in an older one, or numbers
-- before it are lost, 3: in an older one),
-- where it stood there (-epoch-since-upto), then three for each item: count (negative: not kept;
-- with a + in front: its log gets its full time again; + or -: a member; x: nothing), key,
-- envelope.
-- Returns {1: stored | 0: a repeat | -1: a hole | -2: join first, seq or last number}.
local l = KEYS[1]
local P = string.sub(l, 1, -2)
local h = redis.call('HMGET', l, 's', 'e', 'at', 't')
local seq, epoch = tonumber(h[1] or 0), h[2]
if epoch ~= ARGV[4] or seq < tonumber(ARGV[5]) then return {-2, seq} end
local sender, origin, again, first = P .. 'b:' .. ARGV[1], ARGV[2], ARGV[8], ARGV[9]
local n, last = tonumber(ARGV[3]), tonumber(redis.call('GET', sender) or 0)
local final = n + (#ARGV - 9) / 3 - 1
if final <= last then return {0, seq} end
if n ~= last + 1 and again ~= '2' then return {-1, last} end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local before, max, keep = seq, tonumber(ARGV[6]) + 1, tonumber(ARGV[7])
local step = math.max(100, math.floor(keep / 16))
-- A log is cut once it is an eighth too long. As text: to write a number costs more than the
-- command that it is for.
local oldest, most, expire = tostring(-max), max + math.floor(max / 8), tostring(keep + 2 * step)
if again == '2' then redis.call('HSET', l, 'j', seq) end
if again == '1' then
  local before = string.match(first, '^-(%d+)')
  local ends = redis.call('HMGET', l, 'x:' .. before, 'y:' .. before)
  -- No node that clients can have come from had heard more than the engine has.
  if ends[1] and ends[2] and tonumber(ends[2]) <= tonumber(ends[1]) then again, first = '0', '' end
end
local PLUS = 43
local is_late = string.byte(ARGV[7]) == PLUS
local call, channel, key, tail = redis.call, P .. 'c:', P .. 't:', first .. ':'
local head, middle = epoch .. ':', ':' .. origin .. ':'
local settle, is_dead
local has_events, changes = false, {}
for i = 10, #ARGV, 3 do
  local count = tonumber(ARGV[i])
  if count then
    has_events = true
    local is_kept = count > 0
    seq = seq + (is_kept and count or -count)
    local entry = head .. seq .. middle .. n .. tail .. ARGV[i + 2]
    if is_kept then
      local log = key .. ARGV[i + 1]
      local length = call('RPUSH', log, entry)
      if length > most then call('LTRIM', log, oldest, '-1') end
      if length == 1 or is_late or string.byte(ARGV[i]) == PLUS then
        call('PEXPIRE', log, expire)
      end
    end
    call('PUBLISH', channel .. ARGV[i + 1], entry)
  elseif ARGV[i] ~= 'x' then
    if is_dead == nil then
      is_dead = redis.call('EXISTS', P .. 'd:' .. origin) == 1
      settle = tonumber(redis.call('HGET', l, 'st') or 0)
    end
    local member, change, roster = ARGV[i + 1], nil, P .. 'r:' .. origin
    if is_dead then
      change = nil
    elseif ARGV[i] == '+' then
      if redis.call('SADD', roster, member) == 1
        and redis.call('HINCRBY', P .. 'ph', member, 1) == 1 then change = '+' end
    elseif redis.call('SREM', roster, member) == 1
      and redis.call('HINCRBY', P .. 'ph', member, -1) <= 0 then
      redis.call('HDEL', P .. 'ph', member)
      if settle <= now then change = '-' end
    end
    if change then changes[#changes + 1] = change .. #member .. ':' .. member end
  end
  n = n + 1
end
-- Presence, as in presence.lua.
if #changes > 0 then
  seq = seq + 1
  local entry = epoch .. ':' .. seq .. ':' .. origin .. ':' .. table.concat(changes)
  redis.call('RPUSH', P .. 'pl', entry)
  redis.call('LTRIM', P .. 'pl', -1001, -1)
  redis.call('PUBLISH', P .. 'p', entry)
end
-- A mark says: all up to this seq was appended at this time or before.
if now - tonumber(h[4] or 0) >= step then
  redis.call('RPUSH', P .. 'm', (h[3] or now) .. ':' .. before)
  redis.call('LTRIM', P .. 'm', -64, -1)
  redis.call('HSET', l, 't', now)
end
redis.call('HSET', l, 's', seq, 'at', now)
redis.call('SET', sender, final, 'PX', 86400000)
-- Whoever has a position of this epoch before these may have them already.
if again ~= '0' and has_events then redis.call('HSET', l, 'g:' .. epoch, seq) end
return {1, seq}
