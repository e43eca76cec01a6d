-- Shared by the scripts that change who is present; `load` in scripts.py puts it before them.
-- `r:<node>` is the roster of one node, `ph` counts on how many nodes each member is, and `pl` is
-- the log of those changes that every node hears: from none to one node, and back. What one call
-- changes is one entry, `epoch:seq:origin:` and then `+` or `-`, length, `:`, and member for each.
local l = KEYS[1]
local P = string.sub(l, 1, -2)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lane = redis.call('HMGET', l, 's', 'e', 'st')
local seq, epoch = tonumber(lane[1] or 0), lane[2]
-- Not all nodes have entered their rosters in this epoch: whoever seems to leave may be elsewhere.
local is_settling = tonumber(lane[3] or 0) > now

local changes = {}

local function note(sign, member) changes[#changes + 1] = sign .. #member .. ':' .. member end

local function enter(node, member)
  if redis.call('SADD', P .. 'r:' .. node, member) == 0 then return end
  if redis.call('HINCRBY', P .. 'ph', member, 1) == 1 then note('+', member) end
end

local function drop(member)
  if redis.call('HINCRBY', P .. 'ph', member, -1) > 0 then return end
  redis.call('HDEL', P .. 'ph', member)
  if not is_settling then note('-', member) end
end

local function leave(node, member)
  if redis.call('SREM', P .. 'r:' .. node, member) == 1 then drop(member) end
end

local function clear(node)
  for _, member in ipairs(redis.call('SMEMBERS', P .. 'r:' .. node)) do drop(member) end
  redis.call('DEL', P .. 'r:' .. node)
  redis.call('ZREM', P .. 'nodes', node)
end

local function finish(origin)
  if not epoch or #changes == 0 then return end
  seq = seq + 1
  local entry = epoch .. ':' .. seq .. ':' .. origin .. ':' .. table.concat(changes)
  redis.call('RPUSH', P .. 'pl', entry)
  redis.call('LTRIM', P .. 'pl', -1001, -1)
  redis.call('PUBLISH', P .. 'p', entry)
  redis.call('HSET', l, 's', seq)
end
