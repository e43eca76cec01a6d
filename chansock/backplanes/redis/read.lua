#!lua flags=no-writes
-- Read the logs of some keys after a position.
-- ARGV: is for a node (1) or a client (0), epoch and seq of the position ('': none), keep_events,
-- keep ms, then the keys.
-- Returns {epoch, seq, {numbers of keys that are not whole; 0: all}, then number and entries of
-- each key that has some}. A node gets again what was sent again, and drops what it had. A client
-- cannot, so that its position may be in doubt.
local l = KEYS[1]
local P = string.sub(l, 1, -2)
local since_epoch, max = ARGV[2], tonumber(ARGV[4])
local h = redis.call('HMGET', l, 's', 'e', 'x:' .. since_epoch, 'g:' .. since_epoch, 'j', 'at')
local seq, epoch = tonumber(h[1] or 0), h[2] or '0'
if since_epoch == '' then return {epoch, seq, {}} end
local since, is_node = tonumber(ARGV[3]), ARGV[1] == '1'
local all = {epoch, seq, {0}}
if not is_node then
  if since > (since_epoch == epoch and seq or tonumber(h[3] or -1)) then return all end
  if since < tonumber(h[4] or 0) then return all end
end
local ended = since_epoch == epoch and (is_node and 0 or seq) or tonumber(h[3] or -1)
-- Some that was lost before `j` cannot be sent again.
if since < tonumber(h[5] or 0) and since <= ended then return all end
-- What was appended before this time may be gone with its log.
local time = redis.call('TIME')
local old = time[1] * 1000 + math.floor(time[2] / 1000) - tonumber(ARGV[5])
if h[6] and tonumber(h[6]) <= old then
  if since < seq then return all end
else
  local marks = redis.call('LRANGE', P .. 'm', 0, -1)
  for i = #marks, 1, -1 do
    local at, upto = string.match(marks[i], '^(%d+):(%d+)')
    if tonumber(at) <= old then
      if since < tonumber(upto) then return all end
      break
    end
  end
end
local since_at = tonumber(since_epoch)
local function is_after(entry)
  local e, s = string.match(entry, '^(%d+):(%d+)')
  e = tonumber(e)
  return e > since_at or (e == since_at and tonumber(s) > since)
end
local out, lost = {epoch, seq, {}}, {}
for k = 6, #ARGV do
  local log = P .. 't:' .. ARGV[k]
  local n, found = 1, {}
  local length = redis.call('LLEN', log)
  if length > 0 then
    while true do
      found = redis.call('LRANGE', log, -n, -1)
      if n >= length or not is_after(found[1]) then break end
      n = n * 8
    end
  end
  if length > max and is_after(found[1]) then
    lost[#lost + 1] = k - 5
  elseif length > 0 and is_after(found[#found]) then
    local kept = {}
    for i = 1, #found do
      if is_after(found[i]) then kept[#kept + 1] = found[i] end
    end
    out[#out + 1] = k - 5
    out[#out + 1] = kept
  end
end
out[3] = lost
return out
