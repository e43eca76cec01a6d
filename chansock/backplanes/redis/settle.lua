#!lua flags=allow-oom
--@ presence
-- All nodes had time to enter their rosters: note which of these members are on none.
-- ARGV: node, then the members that it knows.
for i = 2, #ARGV do
  if redis.call('HEXISTS', P .. 'ph', ARGV[i]) == 0 then note('-', ARGV[i]) end
end
finish(ARGV[1])
return 1
