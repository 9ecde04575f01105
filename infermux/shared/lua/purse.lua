-- Money of one purse in one period, shared: how much is granted to all nodes together, and to each of them.
--
-- KEYS[1]  the purse: a hash of `total`, `base`, `version`, `spent` (micro-dollars), and a field a node: "granted number"
-- ARGV     1 node  2 number of this call, growing  3 limit  4 what the node spent or promised since it started
--          5 what it wants to hold beyond that  6 what it needs to hold, all of it or nothing
--          7 what it knows to have been granted since it started
--          8, 9 the total it saw last and its version; version -1: it saw none, and 7, 8, 11 and 12 are what a store knows
--          to be spent: 7 and 11 by this node, 8 and 12 by all
--          10 what it spent since it started  11 what of that it knows to be in `spent` already
--          12 the spent it saw last  13 ms to keep the purse
-- returns  granted since the node's start, total, version, spent by all, 1 where something lost was written back
--
-- As in limit.lua amounts of a node are totals since its start, so that nothing is ever counted twice.

local key, node, number, limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local used, want, need, known = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local seen, version = tonumber(ARGV[8]), tonumber(ARGV[9])
local spending, booked, spent_seen = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local field = 'n:' .. node
local found = redis.call('HMGET', key, 'total', 'base', 'version', 'spent', 'based', field)

local function text(value) return string.format('%.0f', value) end

local total, base, based, spent, counter, restored = seen, seen, version, spent_seen, math.max(version, 0), 0
if found[1] then
  total, base, counter = tonumber(found[1]), tonumber(found[2]), tonumber(found[3])
  spent, based = tonumber(found[4]), tonumber(found[5])
elseif version >= 0 then
  restored = 1
end

local granted, in_spent = known, booked
if found[6] then
  local last, last_number, last_spent = string.match(found[6], '^(%-?%d+) (%d+) (%-?%d+)$')
  granted, in_spent = tonumber(last), tonumber(last_spent)
  if number <= tonumber(last_number) then return {granted, total, counter, spent, 0} end
  if granted < known then -- Redis has gone back to what it kept before
    total = total + (known - granted)
    granted, restored = known, 1
  end
elseif found[1] and version > based then -- written back by one who knew less
  total, spent = total + math.max(0, seen - base), math.max(spent, spent_seen)
  base, based, counter, restored = math.max(seen, base), version, math.max(counter, version), 1
elseif found[1] and version < 0 and booked > 0 then -- it was there before Redis was, and is booked in a store
  total, spent = math.max(total, seen), math.max(spent, spent_seen)
end

spent = spent + (spending - in_spent)
local target = used + want
if target <= granted and used + need <= granted then
  total = total - (granted - target)
  granted = target
else
  if used > granted then
    total = total + (used - granted)
    granted = used
  end
  local free = math.max(0, limit - total)
  local rest = math.max(0, target - granted)
  if need > want and used + need - granted <= free then rest = used + need - granted end
  local given = math.min(rest, free)
  total = total + given
  granted = granted + given
end
counter = counter + 1
redis.call('HSET', key, 'total', text(total), 'base', text(base), 'based', text(based), 'version', text(counter),
  'spent', text(spent), field, text(granted) .. ' ' .. text(number) .. ' ' .. text(spending))
redis.call('PEXPIRE', key, ARGV[13])
return {granted, total, counter, spent, restored}
