-- What every script begins with. KEYS: meta, feed, seen, times, and for an append the shard's tail.
-- Offsets and times are kept as texts: Lua would write large numbers with an exponent.
local now, life_of_used, life_of_unused, fresh_epoch = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function whole(number)
  return string.format('%.0f', number)
end

-- Seconds that a log is kept which ends at the offset.
local function life_at(offset)
  return offset == '0' and life_of_unused or life_of_used
end

-- A server that refuses to write may still be read from.
local function touch(offset)
  for i = 1, 4 do
    redis.pcall('EXPIRE', KEYS[i], life_at(offset))
  end
end

-- Touches only when a quarter of the life is over, so that reading seldom writes.
local function renew(offset)
  if redis.call('TTL', KEYS[1]) < life_at(offset) * 3 / 4 then
    touch(offset)
  end
end

-- The feed's epoch, offset, tag and since when its memory of keys reaches back. Without a meta there is
-- no log, whatever else may be left of it: a new life begins.
local function open()
  local meta = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'tag', 'since')
  if meta[1] then
    renew(meta[2])
    return meta
  end
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
  meta = { fresh_epoch, '0', '00000000', now }
  redis.call('HSET', KEYS[1], 'epoch', meta[1], 'offset', meta[2], 'tag', meta[3], 'since', meta[4])
  touch(meta[2])
  return meta
end
