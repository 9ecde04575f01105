-- Money of one purse in one period, shared: what each node was granted of it, and what each has spent.
--
-- KEYS     1 the purse: a hash of a field "n:NODE" for each node: "granted number spent at store", a field "s:STORE" for
--          each store: `lent`, and `sweep` (ms)  2 the nodes, as heartbeats keep them
-- ARGV     1 node  2 number of this call, growing  3 limit  4 what the node spent or promised since it started
--          5 what it wants to hold beyond that  6 what it needs to hold, all of it or nothing
--          7 what it knows to have been granted since it started  8 what it spent since it started
--          9 what of that it knows to have been told before  10 ms to keep the purse
--          11 what its store has of all other nodes; -1: that is not to be compared now
--          12 what the store may have of this node, at most, until this call is answered  13 the store's name
--          14 the book, as it saw it last; empty: it saw none
-- returns  granted since the node's start, granted to all and spent, spent by all, 1 where something lost was written
--          back, what is spent with that store without this node, the book
-- The book has a line "n NODE granted spent store" for each node and "s lent store" for each store. Micro-dollars.
--
-- What a node has spent is a total since its start that only grows, and of two such totals the larger one is true: so
-- it does not matter how often, by whom and in which order they are told. All have spent the sum of them, and `lent`:
-- what only a store told, for whoever spent it has gone, has been forgotten, or has not come yet. Who comes tells how
-- much of that may be its own, which is taken out of `lent`; too much of it is put back with the next comparison.

local GONE = 5000 -- ms without a word, after which a node that sends no heartbeats has nothing any more
local EVERY = 1000 -- ms between two looks for such
local FORGOTTEN = 3600000 -- ms after which what it spent is kept without its name
local MOST = 1000 -- values in one command, as Lua's stack takes no more than some thousands

local key, node, number, limit = KEYS[1], ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local used, want, need, known = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7])
local spending, booked, theirs, kept = tonumber(ARGV[8]), tonumber(ARGV[9]), tonumber(ARGV[11]), tonumber(ARGV[12])
local store, book = ARGV[13], ARGV[14]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local nodes, lent, written, changed, sweep, restored = {}, {}, {}, {}, 0, 0

local function text(value) return string.format('%.0f', value) end

local found = redis.call('HGETALL', key)
for i = 1, #found, 2 do
  local kind, name, value = string.sub(found[i], 1, 2), string.sub(found[i], 3), found[i + 1]
  if kind == 'n:' then
    local granted, last, spent, at, of = string.match(value, '^(%-?%d+) (%d+) (%-?%d+) (%d+) (.*)$')
    nodes[name] = {
      granted = tonumber(granted), number = tonumber(last), spent = tonumber(spent), at = tonumber(at), store = of
    }
  elseif kind == 's:' then
    lent[name], written[name] = tonumber(value), tonumber(value)
  elseif found[i] == 'sweep' then
    sweep = tonumber(value)
  end
end

-- What is granted and spent, spent, and spent with that store without this node.
local function sums()
  local total, spent, others = 0, 0, lent[store] or 0
  for name, each in pairs(nodes) do
    total, spent = total + each.granted, spent + each.spent
    if name ~= node and each.store == store then others = others + each.spent end
  end
  for _, amount in pairs(lent) do total, spent = total + amount, spent + amount end
  return total, spent, others
end

local function answer(total, spent, others)
  local lines = {}
  for name, each in pairs(nodes) do
    lines[#lines + 1] = 'n ' .. name .. ' ' .. text(each.granted) .. ' ' .. text(each.spent) .. ' ' .. each.store
  end
  for of, amount in pairs(lent) do lines[#lines + 1] = 's ' .. text(amount) .. ' ' .. of end
  return {nodes[node].granted, total, spent, restored, others, table.concat(lines, '\n')}
end

if nodes[node] and number <= nodes[node].number then return answer(sums()) end

-- So much of what a store told is told by its node now, or may be.
local function settle(of, amount)
  local had = lent[of] or 0
  lent[of] = had - math.min(had, math.max(0, amount))
end

if book ~= '' and (not nodes[node] or nodes[node].spent < booked) then -- Redis has lost it, or has gone back
  restored = 1
  for line in string.gmatch(book, '[^\n]+') do
    local name, granted, spent, of = string.match(line, '^n (%S+) (%-?%d+) (%-?%d+) (.*)$')
    local amount, lender = string.match(line, '^s (%d+) (.*)$')
    if name then
      local there = nodes[name] or {granted = tonumber(granted), number = 0, spent = 0, at = now, store = of}
      if #found > 0 then settle(of, tonumber(spent) - there.spent) end
      there.granted = math.max(there.granted, tonumber(spent))
      there.spent = math.max(there.spent, tonumber(spent))
      nodes[name], changed[name] = there, true
    elseif lender then
      lent[lender] = lent[lender] or tonumber(amount)
    end
  end
end

local mine = nodes[node] or {granted = known, spent = 0}
local before = mine.store == store and math.min(booked, mine.spent) or 0 -- not its own store: that may have told all of it
settle(store, math.min(kept, spending) - before)
if mine.granted < known then mine.granted, restored = known, 1 end -- or it was taken for gone
mine.granted = math.max(mine.granted, used)
mine.number, mine.spent, mine.at, mine.store = number, math.max(mine.spent, spending), now, store
nodes[node], changed[node] = mine, true

if sweep < now - 2 * GONE or sweep > now + 2 * GONE then -- nobody was here: let all come back first
  sweep = now + GONE
elseif sweep <= now then
  sweep = now + EVERY
  for name, each in pairs(nodes) do
    if each.at > now then -- the clock was set back: else who is gone would be counted until it is there again
      each.at, changed[name] = now, true
    end
    local silent = now - each.at
    if silent > GONE and not redis.call('HGET', KEYS[2], string.match(name, '^(.*)%.') or name) then
      if silent > FORGOTTEN then
        redis.call('HDEL', key, 'n:' .. name)
        lent[each.store] = (lent[each.store] or 0) + each.spent
        nodes[name], changed[name] = nil, nil
      elseif each.granted ~= each.spent then
        each.granted, changed[name] = each.spent, true
      end
    end
  end
end

local total, spent, others = sums()
if theirs > others then
  local lacking = theirs - others
  lent[store] = (lent[store] or 0) + lacking
  total, spent, others = total + lacking, spent + lacking, theirs
end

local free, goal = math.max(0, limit - total), used + want
if need > want and used + need - mine.granted <= free then goal = used + need end
-- What is held beyond the goal goes back, also where what is needed is not there: others may hold the rest of it.
local given = math.min(goal - mine.granted, free)
mine.granted, total = mine.granted + given, total + given

local fields = {}
local function flush()
  redis.call('HSET', key, unpack(fields))
  fields = {}
end
local function put(field, value)
  fields[#fields + 1], fields[#fields + 2] = field, value
  if #fields >= MOST then flush() end
end
for name in pairs(changed) do
  local each = nodes[name]
  put('n:' .. name, table.concat({text(each.granted), text(each.number), text(each.spent), text(each.at), each.store}, ' '))
end
for of, amount in pairs(lent) do -- one of nothing too: whoever has seen more of it before is not to write that back
  if written[of] ~= amount then put('s:' .. of, text(amount)) end
end
put('sweep', text(sweep))
if #fields > 0 then flush() end
redis.call('PEXPIRE', key, ARGV[10])
return answer(total, spent, others)
