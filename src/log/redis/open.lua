-- What every script begins with. KEYS: meta, feed, seen, times, and for an append the shard's tail.
-- Offsets and times are kept as texts: Lua would write large numbers with an exponent.

local function whole(number)
  return string.format('%.0f', number)
end

local function touch(expiry)
  for i = 1, 4 do
    redis.call('EXPIRE', KEYS[i], expiry)
  end
end

-- The feed's epoch, offset, tag and since when its memory of keys reaches back. Without a meta there is
-- no log, whatever else may be left of it: a new life begins.
local function open(now, expiry, epoch)
  local meta = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'tag', 'since')
  if meta[1] then
    return meta
  end
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
  meta = { epoch, '0', '00000000', now }
  redis.call('HSET', KEYS[1], 'epoch', meta[1], 'offset', meta[2], 'tag', meta[3], 'since', meta[4])
  touch(expiry)
  return meta
end
