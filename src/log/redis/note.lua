-- Notes how many watch a feed in one process.
local count = ARGV[3]

if count == '0' then
  redis.call('HDEL', KEYS[1], process)
else
  redis.call('HSET', KEYS[1], process, count .. ' ' .. now)
  redis.call('EXPIRE', KEYS[1], fresh)
end
-- As long as others note, what dead processes left behind does not expire.
local notes = redis.call('HGETALL', KEYS[1])
for i = 1, #notes, 2 do
  if not count_of(notes[i + 1]) then
    redis.call('HDEL', KEYS[1], notes[i])
  end
end
