#!lua flags=allow-oom
-- Enter the node, and open a new epoch if the engine is another, is empty, or has lost its end.
-- ARGV: sender, node, id of the server's run, epoch seen, seq seen, lease ms, settle ms
-- Returns {epoch, seq, last number of the sender, is dead, is settling, where the epoch seen ended,
-- and for a node that has seen none: each older epoch and where it ended}.
local l = KEYS[1]
local P = string.sub(l, 1, -2)
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local h = redis.call('HMGET', l, 's', 'e', 'r', 'st', 'sx')
local seq, epoch = tonumber(h[1] or 0), h[2]
local seen_epoch, seen = tonumber(ARGV[4]), tonumber(ARGV[5])
local at = tonumber(epoch or 0)
if not epoch or h[3] ~= ARGV[3] or at < seen_epoch or (at == seen_epoch and seq < seen) then
  if epoch then redis.call('HSET', l, 'x:' .. epoch, seq) end
  epoch = string.format('%.0f', math.max(now, at + 1, seen_epoch + 1))
  redis.call('HSET', l, 'e', epoch, 'r', ARGV[3])
end
-- How far any node had heard the epoch before: what comes again from behind that is new to all.
if seen_epoch > 0 and seen_epoch < tonumber(epoch) then
  local heard = tonumber(redis.call('HGET', l, 'y:' .. ARGV[4]) or 0)
  if seen > heard then redis.call('HSET', l, 'y:' .. ARGV[4], seen) end
end
-- The first that comes from an older epoch: the others come, too, with their rosters.
if seen_epoch > 0 and seen_epoch < tonumber(epoch) and h[5] ~= epoch then
  h[4] = now + tonumber(ARGV[7])
  redis.call('HSET', l, 'st', h[4], 'sx', epoch)
end
if seen > seq then seq = seen end
-- One that heard what was lost: positions of this epoch may be of clients that had it.
if seen_epoch > 0 and seen_epoch < tonumber(epoch)
  and seen > tonumber(redis.call('HGET', l, 'x:' .. ARGV[4]) or 0) then
  redis.call('HSET', l, 'g:' .. epoch, seq)
end
redis.call('HSET', l, 's', seq)
local is_dead = redis.call('EXISTS', P .. 'd:' .. ARGV[2])
if is_dead == 0 then redis.call('ZADD', P .. 'nodes', now + tonumber(ARGV[6]), ARGV[2]) end
local last = tonumber(redis.call('GET', P .. 'b:' .. ARGV[1]) or 0)
local ended = redis.call('HGET', l, 'x:' .. ARGV[4]) or '0'
local older = {}
if seen_epoch == 0 then
  local all = redis.call('HGETALL', l)
  for i = 1, #all, 2 do
    local name = string.match(all[i], '^x:(%d+)$')
    if name then
      older[#older + 1] = name
      older[#older + 1] = all[i + 1]
    end
  end
end
return {epoch, seq, last, is_dead, tonumber(h[4] or 0) > now and 1 or 0, ended, older}
