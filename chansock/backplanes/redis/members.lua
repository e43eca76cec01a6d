#!lua flags=no-writes
-- Read the changes of presence after a position; or all members, if the log begins later.
-- ARGV: epoch and seq ('': all members).
-- Returns {seq, 1, changes} or {seq, 0, members}.
local l = KEYS[1]
local P = string.sub(l, 1, -2)
local seq = tonumber(redis.call('HGET', l, 's') or 0)
local log = redis.call('LRANGE', P .. 'pl', 0, -1)
local at, since = tonumber(ARGV[1]), tonumber(ARGV[2])
local function is_after(entry)
  local e, s = string.match(entry, '^(%d+):(%d+)')
  e = tonumber(e)
  return e > at or (e == at and tonumber(s) > since)
end
if ARGV[1] == '' or (#log > 1000 and is_after(log[1])) then
  return {seq, 0, redis.call('HKEYS', P .. 'ph')}
end
local found = {}
for i = 1, #log do
  if is_after(log[i]) then found[#found + 1] = log[i] end
end
return {seq, 1, found}
