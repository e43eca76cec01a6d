#!lua flags=allow-oom
-- Keep the records of clients whose home a node is; make them anew where the engine lost them.
-- ARGV: node, ms that a record lives, then the clients.
-- Returns the numbers of those that have gone to other nodes.
local P = string.sub(KEYS[1], 1, -2)
local moved = {}
for i = 3, #ARGV do
  local record = P .. 's:' .. ARGV[i]
  local h = redis.call('HMGET', record, 'n', 'st')
  if not h[1] and not h[2] then redis.call('HSET', record, 'n', ARGV[1]) end
  if h[1] == ARGV[1] or (not h[1] and not h[2]) then
    redis.call('PEXPIRE', record, ARGV[2])
  else
    moved[#moved + 1] = i - 2
  end
end
return moved
