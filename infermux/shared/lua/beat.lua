-- A node's heartbeat: who is there, whether Redis still knows what it knew, and whether there is news.
--
-- KEYS     1 the nodes: a hash of the ms each was last heard of, " over" where more runs on it at once than its part, and
--          " leaves ..." where it ends
--          2 the epoch  3 the number of the last news
-- ARGV     1 node  2 ms after which a node that says nothing is gone  3 an epoch, in case there is none
--          4 "1": the node takes its leave  5 "1": more runs on it at once than its part
--          6 what the others are to know of one that ends, else ""
-- returns  time (ms), epoch, number of the last news, 1 where another node is over its part, names of the nodes: after
--          that of one that ends, what it said

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local gone = tonumber(ARGV[2])

redis.call('SET', KEYS[2], ARGV[3], 'NX')
if ARGV[4] == '1' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  local ends = (ARGV[6] or '') ~= '' and ' leaves ' .. ARGV[6] or ''
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now) .. (ARGV[5] == '1' and ' over' or '') .. ends)
end
local answer = {now, redis.call('GET', KEYS[2]), tonumber(redis.call('GET', KEYS[3]) or 0), 0}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  local at, rest = string.match(all[i + 1], '^(%d+)(.*)$')
  if now - tonumber(at) > gone then
    redis.call('HDEL', KEYS[1], all[i])
  else
    if tonumber(at) > now then -- the clock was set back: else who is gone would be counted until it is there again
      redis.call('HSET', KEYS[1], all[i], string.format('%.0f', now) .. rest)
    end
    if string.find(rest, ' over', 1, true) and all[i] ~= ARGV[1] then answer[4] = 1 end
    answer[#answer + 1] = all[i] .. (string.match(rest, ' leaves( .*)$') or '')
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return answer
