-- A limit a minute, shared: a token bucket by Redis's own clock, and how much of it each node was granted so far.
--
-- KEYS[1]  the limit: a hash of `level` and `base` (parts), `at` (ms) and one field a node: "granted number at"
-- ARGV     1 node  2 number of this call, growing  3 limit a minute  4 tokens the node has used since it started
--          5 tokens it wants to hold beyond that  6 tokens it needs to hold, all of them or not at all
--          7 tokens it knows to have been granted since it started
--          8, 9 the level it saw last and when (parts, ms); -1: it has seen none
-- returns  granted since the node's start, level (parts), time (ms), 1 where something lost was written back
--
-- A token is 60000 parts, so that a millisecond refills `limit` parts: all is whole numbers below 2^53.
-- Amounts of a node are totals since its start: said twice, or after an answer that was lost, they change nothing.
-- What a node was granted is taken from the level, whether it uses it or dies; what it used beyond that is a debt.

local TOKEN = 60000
local FORGET = 600000 -- ms after which a node that says nothing is forgotten
local MANY = 64
local SKEW = 5000 -- ms that the clock may go back for a moment; beyond that it was set back, and goes on from there

local key, node, number, limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local used, want, need, known = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local seen, seen_at = tonumber(ARGV[8]), tonumber(ARGV[9])

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local full = limit * TOKEN
local field = 'n:' .. node
local found = redis.call('HMGET', key, 'level', 'base', 'at', field)

local function text(value) return string.format('%.0f', value) end

-- What this node would say the level is now, had nobody taken anything since it looked.
local told = full
if seen_at >= 0 then told = math.min(full, seen + limit * math.max(0, now - seen_at)) end

local level, base, at, restored = told, told, now, 0
if found[1] then
  local last = tonumber(found[3])
  if last > now + SKEW then last = now end
  at = math.max(now, last)
  local refill = limit * (at - last)
  level = math.min(full, tonumber(found[1]) + refill)
  base = math.min(full, tonumber(found[2]) + refill)
elseif seen_at >= 0 then
  restored = 1
end

local granted = known
if found[4] then
  local last, last_number = string.match(found[4], '^(%-?%d+) (%d+) %d+$')
  granted = tonumber(last)
  if number <= tonumber(last_number) then return {granted, level, now, 0} end
  if granted < known then -- Redis has gone back to what it kept before
    level = level - (known - granted) * TOKEN
    granted, restored = known, 1
  end
elseif found[1] and seen_at >= 0 and told < base then -- written back by one who knew less
  level = level - (base - told)
  base, restored = told, 1
end

local target = used + want
if target <= granted and used + need <= granted then
  level = math.min(full, level + (granted - target) * TOKEN)
  granted = target
else
  if used > granted then
    level = level - (used - granted) * TOKEN
    granted = used
  end
  local free = math.max(0, math.floor(level / TOKEN))
  local rest = math.max(0, target - granted)
  if need > want and used + need - granted <= free then rest = used + need - granted end
  local given = math.min(rest, free)
  level = level - given * TOKEN
  granted = granted + given
end

redis.call('HSET', key, 'level', text(level), 'base', text(base), 'at', text(at),
  field, text(granted) .. ' ' .. text(number) .. ' ' .. text(now))
if redis.call('HLEN', key) > MANY then
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local last = string.match(all[i + 1], '^%-?%d+ %d+ (%d+)$')
    if last and now - tonumber(last) > FORGET then redis.call('HDEL', key, all[i]) end
  end
end
redis.call('PEXPIRE', key, text(math.max(FORGET, math.ceil((full - level) / limit))))
return {granted, level, now, restored}
