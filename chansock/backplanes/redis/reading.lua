-- Shared by the scripts that read logs; `load` in scripts.py puts it before them.
local l = KEYS[1]
local P = string.sub(l, 1, -2)
local h = redis.call('HMGET', l, 's', 'e', 'j', 'at')
local seq, epoch = tonumber(h[1] or 0), h[2] or '0'
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local marks

-- Whether what was appended before `old` may be gone with its log, and is after `since`.
local function is_gone(since, old)
  if h[4] and tonumber(h[4]) <= old then return since < seq end
  marks = marks or redis.call('LRANGE', P .. 'm', 0, -1)
  for i = #marks, 1, -1 do
    local at, upto = string.match(marks[i], '^(%d+):(%d+)')
    if tonumber(at) <= old then return since < tonumber(upto) end
  end
  return false
end

-- Append to `out` the numbers of those keys that are not whole after a position (0: all), then
-- number and entries of each key that has some. The keys are ARGV[from] to ARGV[upto].
-- A node gets again what was sent again, and drops what it had. A client cannot, so that its
-- position may be in doubt.
local function read(out, is_node, since_epoch, since, max, keep, from, upto)
  local x = redis.call('HMGET', l, 'x:' .. since_epoch, 'g:' .. since_epoch)
  local function is_doubtful()
    if not is_node then
      if since > (since_epoch == epoch and seq or tonumber(x[1] or -1)) then return true end
      if since < tonumber(x[2] or 0) then return true end
    end
    local ended = since_epoch == epoch and (is_node and 0 or seq) or tonumber(x[1] or -1)
    -- Some that was lost before `j` cannot be sent again.
    if since < tonumber(h[3] or 0) and since <= ended then return true end
    return is_gone(since, now - keep)
  end
  local lost = {}
  out[#out + 1] = lost
  if is_doubtful() then
    lost[1] = 0
    return
  end
  local since_at = tonumber(since_epoch)
  local function is_after(entry)
    local e, s = string.match(entry, '^(%d+):(%d+)')
    e = tonumber(e)
    return e > since_at or (e == since_at and tonumber(s) > since)
  end
  for k = from, upto do
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
      lost[#lost + 1] = k - from + 1
    elseif length > 0 and is_after(found[#found]) then
      local kept = {}
      for i = 1, #found do
        if is_after(found[i]) then kept[#kept + 1] = found[i] end
      end
      out[#out + 1] = k - from + 1
      out[#out + 1] = kept
    end
  end
end
