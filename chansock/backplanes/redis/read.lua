#!lua flags=no-writes
--@ reading
-- Read the logs of some keys after a position, for a node.
-- ARGV: epoch and seq of the position, keep_events, keep ms, then the keys.
-- Returns {epoch, seq}, and what `read` appends.
local out = {epoch, seq}
read(out, true, ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), tonumber(ARGV[4]), 5, #ARGV)
return out
