#!lua flags=allow-oom
--@ presence
-- Enter all members of a node, and only them. ARGV: node, then its members.
local node = ARGV[1]
if redis.call('EXISTS', P .. 'd:' .. node) == 1 then return 0 end
local wanted = {}
for i = 2, #ARGV do wanted[ARGV[i]] = true end
for _, member in ipairs(redis.call('SMEMBERS', P .. 'r:' .. node)) do
  if not wanted[member] then leave(node, member) end
end
for i = 2, #ARGV do enter(node, ARGV[i]) end
finish(node)
return 1
