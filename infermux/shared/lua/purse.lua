-- Money of one purse in one period, shared: how much is granted to all nodes together, and to each of them.
--
-- KEYS     1 the purse: a hash of `total`, `base`, `based`, `version`, `spent`, `lent` (micro-dollars), `sweep` (ms), `swept`,
--          and a field a node: "granted number spent at"  2 the nodes, as heartbeats keep them
-- ARGV     1 node  2 number of this call, growing  3 limit  4 what the node spent or promised since it started
--          5 what it wants to hold beyond that  6 what it needs to hold, all of it or nothing
--          7 what it knows to have been granted since it started
--          8, 9 the total it saw last and its version; version -1: it saw none, and 7, 8, 11 and 12 are what a store knows
--          to be spent: 7 and 11 by this node, 8 and 12 by all
--          10 what it spent since it started  11 what of that it knows to be in `spent` already
--          12 the spent it saw last  13 ms to keep the purse  14 what a store has of all nodes  15 and, at most, of this one
-- returns  granted since the node's start, total, version, spent by all, 1 where something lost was written back
--
-- As in limit.lua amounts of a node are totals since its start, so that nothing is ever counted twice. All together:
-- total = spent + what each node was granted and has not spent. It is made so again each second, from the nodes that are
-- there, so that what a node held that has gone comes back. `lent` is what only the store told: of nodes that are gone, or
-- that will tell it themselves.

local GONE = 5000 -- ms without a word, after which a node that sends no heartbeats has nothing any more
local EVERY = 1000 -- ms between two looks for such
local FORGOTTEN = 86400000 -- ms after which nobody remembers it

local key, node, number, limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local used, want, need, known = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local seen, version = tonumber(ARGV[8]), tonumber(ARGV[9])
local spending, booked, spent_seen = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local kept, kept_own = tonumber(ARGV[14]), tonumber(ARGV[15])
local field = 'n:' .. node
local found = redis.call('HMGET', key, 'total', 'base', 'version', 'spent', 'based', field, 'lent', 'sweep', 'swept')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function text(value) return string.format('%.0f', value) end

local total, base, based, spent, counter, restored = seen, seen, version, spent_seen, math.max(version, 0), 0
local lent, sweep, swept = tonumber(found[7] or 0), tonumber(found[8] or 0), found[9] == '1'
if found[1] then
  total, base, counter = tonumber(found[1]), tonumber(found[2]), tonumber(found[3])
  spent, based = tonumber(found[4]), tonumber(found[5])
elseif version >= 0 then
  restored = 1
end

local granted, in_spent = known, booked
if found[6] then
  local last, last_number, last_spent = string.match(found[6], '^(%-?%d+) (%d+) (%-?%d+) %d+$')
  granted, in_spent = tonumber(last), tonumber(last_spent)
  if number <= tonumber(last_number) then return {granted, total, counter, spent, 0} end
  if granted < known then -- Redis has gone back to what it kept before, or took the node for gone
    total = total + (known - granted)
    granted, restored = known, 1
  end
elseif found[1] and version > based then -- written back by one who knew less
  total, spent = total + math.max(0, seen - base), math.max(spent, spent_seen)
  base, based, counter, restored = math.max(seen, base), version, math.max(counter, version), 1
elseif found[1] and version < 0 and booked > 0 then -- it was there before Redis was, and is booked in a store
  total, spent = math.max(total, seen), math.max(spent, spent_seen)
end
if swept and not found[6] then total = total + granted - in_spent end

-- What the store had of this node before Redis heard of it, others may have told.
local from_store = math.min(lent, math.max(0, math.min(kept_own, spending) - in_spent))
lent, total, spent = lent - from_store, total - from_store, spent + spending - in_spent - from_store
local more = math.max(0, kept - spent)
lent, total, spent = lent + more, total + more, spent + more

local function hold()
  redis.call('HSET', key, field, table.concat({text(granted), text(number), text(spending), text(now)}, ' '))
end

local function look()
  hold()
  total = spent
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local name = string.match(all[i], '^n:(.*)%.')
    if name then
      local has, last, gave, at = string.match(all[i + 1], '^(%-?%d+) (%d+) (%-?%d+) (%d+)$')
      local silent = now - tonumber(at)
      if silent <= GONE or redis.call('HGET', KEYS[2], name) then
        total = total + tonumber(has) - tonumber(gave)
      elseif silent > FORGOTTEN then
        redis.call('HDEL', key, all[i])
      elseif has ~= gave then
        redis.call('HSET', key, all[i], gave .. ' ' .. last .. ' ' .. gave .. ' ' .. at)
      end
    end
  end
end

if sweep < now - 2 * GONE or sweep > now + 2 * GONE then -- nobody was here: let all come back first
  sweep = now + GONE
elseif sweep <= now then
  look()
  sweep, swept = now + EVERY, true
end

if used > granted then
  total = total + (used - granted)
  granted = used
end
local free, goal = math.max(0, limit - total), used + want
if need > want and used + need - granted <= free then goal = used + need end
-- What is held beyond the goal goes back, also where what is needed is not there: others may hold the rest of it.
local given = math.min(goal - granted, free)
total = total + given
granted = granted + given
counter = counter + 1
hold()
redis.call('HSET', key, 'total', text(total), 'base', text(base), 'based', text(based), 'version', text(counter),
  'spent', text(spent), 'lent', text(lent), 'sweep', text(sweep), 'swept', swept and '1' or '0')
redis.call('PEXPIRE', key, ARGV[13])
return {granted, total, counter, spent, restored}
