-- News of providers: kept for who comes later, and published for who listens.
--
-- KEYS     1 the news: a hash  2 the number of the last news
-- ARGV     1 the channel  2 ms to keep it all  3... pairs of field and text; an empty text: no news any more
-- returns  time (ms), number of the last news

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
for i = 3, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
local number = redis.call('INCR', KEYS[2])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
redis.call('PUBLISH', ARGV[1], number)
return {now, number}
