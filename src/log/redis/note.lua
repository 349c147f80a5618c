-- Notes how many watch a feed in one process. KEYS: watchers.
local process, count, now, oldest, fresh = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]

if count == '0' then
  redis.call('HDEL', KEYS[1], process)
else
  redis.call('HSET', KEYS[1], process, count .. ' ' .. now)
  redis.call('EXPIRE', KEYS[1], fresh)
end
-- As long as others note, what dead processes left behind does not expire.
local notes = redis.call('HGETALL', KEYS[1])
for i = 1, #notes, 2 do
  local at = tonumber(string.match(notes[i + 1], ' (%d+)$'))
  if not at or at < tonumber(oldest) then
    redis.call('HDEL', KEYS[1], notes[i])
  end
end
