-- A node's heartbeat: who is there, whether Redis still knows what it knew, and whether there is news.
--
-- KEYS     1 the nodes: a hash of the ms each was last heard of  2 the epoch  3 the number of the last news
-- ARGV     1 node  2 ms after which a node that says nothing is gone  3 an epoch, in case there is none
--          4 "1": the node takes its leave
-- returns  time (ms), epoch, number of the last news, names of the nodes

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local gone = tonumber(ARGV[2])

redis.call('SET', KEYS[2], ARGV[3], 'NX')
if ARGV[4] == '1' then
  redis.call('HDEL', KEYS[1], ARGV[1])
else
  redis.call('HSET', KEYS[1], ARGV[1], string.format('%.0f', now))
end
local answer = {now, redis.call('GET', KEYS[2]), tonumber(redis.call('GET', KEYS[3]) or 0)}
local all = redis.call('HGETALL', KEYS[1])
for i = 1, #all, 2 do
  if now - tonumber(all[i + 1]) > gone then
    redis.call('HDEL', KEYS[1], all[i])
  else
    answer[#answer + 1] = all[i]
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return answer
