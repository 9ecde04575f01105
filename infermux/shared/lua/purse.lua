-- Money of one purse in one period, shared: how much is granted to all nodes together, and to each of them.
--
-- KEYS     1 the purse: a hash of `total`, `base`, `based`, `version`, `spent` (micro-dollars), `sweep` (ms), `swept`,
--          a field a node: "granted number spent at", and a field a store: "spent lent"  2 the nodes, as heartbeats keep them
-- ARGV     1 node  2 number of this call, growing  3 limit  4 what the node spent or promised since it started
--          5 what it wants to hold beyond that  6 what it needs to hold, all of it or nothing
--          7 what it knows to have been granted since it started
--          8, 9 the total it saw last and its version; version -1: it saw none, and 7, 8, 11 and 12 are what a store knows
--          to be spent: 7 and 11 by this node, 8 and 12 by all
--          10 what it spent since it started  11 what of that it knows to be in `spent` already
--          12 the spent it saw last  13 ms to keep the purse  14 what its store has of all nodes  15 and, at most, of this
--          one  16 what it saw last of what the nodes of its store have spent  17 the store's name
-- returns  granted since the node's start, total, version, spent by all, 1 where something lost was written back, what of
--          `spent` is by nodes of that store
--
-- As in limit.lua amounts of a node are totals since its start, so that nothing is ever counted twice. All together:
-- total = spent + what each node was granted and has not spent. It is made so again each second, from the nodes that are
-- there, so that what a node held that has gone comes back. Nodes may have one store or several: what each has is compared
-- with what its nodes have told. `lent` is what only the store told: of nodes that are gone, or that will tell it
-- themselves.

local GONE = 5000 -- ms without a word, after which a node that sends no heartbeats has nothing any more
local EVERY = 1000 -- ms between two looks for such
local FORGOTTEN = 86400000 -- ms after which nobody remembers it

local key, node, number, limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local used, want, need, known = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local seen, version = tonumber(ARGV[8]), tonumber(ARGV[9])
local spending, booked, spent_seen = tonumber(ARGV[10]), tonumber(ARGV[11]), tonumber(ARGV[12])
local kept, kept_own, stored_seen = tonumber(ARGV[14]), tonumber(ARGV[15]), tonumber(ARGV[16])
local field, store = 'n:' .. node, 's:' .. ARGV[17]
local found = redis.call('HMGET', key, 'total', 'base', 'version', 'spent', 'based', field, store, 'sweep', 'swept')
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

local function text(value) return string.format('%.0f', value) end

local total, base, based, spent, counter, restored = seen, seen, version, spent_seen, math.max(version, 0), 0
local sweep, swept = tonumber(found[8] or 0), found[9] == '1'
local stored, lent = string.match(found[7] or '0 0', '^(%-?%d+) (%-?%d+)$')
stored, lent = tonumber(stored), tonumber(lent)
if found[1] then
  total, base, counter = tonumber(found[1]), tonumber(found[2]), tonumber(found[3])
  spent, based = tonumber(found[4]), tonumber(found[5])
elseif version >= 0 then
  restored = 1
else
  stored, lent = spent_seen, math.max(0, spent_seen - booked)
end

local granted, in_spent = known, booked
if found[6] then
  local last, last_number, last_spent = string.match(found[6], '^(%-?%d+) (%d+) (%-?%d+) %d+$')
  granted, in_spent = tonumber(last), tonumber(last_spent)
  if number <= tonumber(last_number) then return {granted, total, counter, spent, 0, stored} end
  if granted < known then -- Redis has gone back to what it kept before, or took the node for gone
    total = total + (known - granted)
    granted, restored = known, 1
  end
elseif found[1] and version > based then -- written back by one who knew less
  total, spent = total + math.max(0, seen - base), math.max(spent, spent_seen)
  base, based, counter, restored = math.max(seen, base), version, math.max(counter, version), 1
elseif found[1] and version < 0 and booked > 0 then -- it was there before Redis was, and its store may have told it
  local more = math.max(0, spent_seen - stored)
  total, spent, stored, lent = total + more, spent + more, stored + more, math.max(0, lent + more - booked)
end
if not found[6] and version >= 0 then stored = math.max(stored, stored_seen) end
if swept and not found[6] then total = total + granted - in_spent end

-- What the store had of this node before Redis heard of it, others may have told.
local from_store = math.min(lent, math.max(0, math.min(kept_own, spending) - in_spent))
local told = spending - in_spent - from_store
lent, total, spent, stored = lent - from_store, total - from_store, spent + told, stored + told
local more = math.max(0, kept - stored)
lent, total, spent, stored = lent + more, total + more, spent + more, stored + more

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
  'spent', text(spent), store, text(stored) .. ' ' .. text(lent), 'sweep', text(sweep), 'swept', swept and '1' or '0')
redis.call('PEXPIRE', key, ARGV[13])
return {granted, total, counter, spent, restored, stored}
