-- Shared beginning of every script about one feed: prepended to append, read_after, read_end, renew_ttl.
--
-- | KEYS | type       | holds                                                                            |
-- | ---- | ---------- | -------------------------------------------------------------------------------- |
-- | 1    | hash       | meta: `epoch`, `offset`, `tag` (the end) and `since`; `life`, `whole` (append)   |
-- | 2    | stream     | the entries; the id of entry 42 is `42-0`                                        |
-- | 3    | hash       | object key -> `<sequencer> <time>` of its latest event                           |
-- | 4    | sorted set | object key, scored by the time at which KEYS[3] recorded it                      |
-- | 5    | stream     | the shard's tail: the entries of all its feeds; used by append only              |
--
-- | ARGV | holds                                                                     |
-- | ---- | ------------------------------------------------------------------------- |
-- | 1    | the current time, microseconds                                            |
-- | 2    | TTL of a feed that has entries, seconds                                   |
-- | 3    | TTL of a feed that never had an entry, seconds                            |
-- | 4    | the epoch to use if this call creates the feed, 16 hexadecimal digits     |
-- | 5..  | the arguments of the script itself                                        |
--
-- Atomicity: Redis runs a script without interleaving other commands, so no reader sees a feed between two
-- of its writes. All keys carry the same hash tag: a script touches one slot of a cluster.
--
-- Offsets and times are passed and stored as strings: Lua formats large numbers with an exponent.
local now, used_ttl, unused_ttl, new_epoch = ARGV[1], ARGV[2], ARGV[3], ARGV[4]

local function format_integer(number)
  return string.format('%.0f', number)
end

local function ttl_at(offset)
  return offset == '0' and unused_ttl or used_ttl
end

-- Errors are ignored: a server that refuses writes can still serve reads.
local function set_ttl(offset)
  for i = 1, 4 do
    redis.pcall('EXPIRE', KEYS[i], ttl_at(offset))
  end
end

-- Sets the TTL only once a quarter of it has passed, so that most reads do not write.
local function renew_ttl(offset)
  if redis.call('TTL', KEYS[1]) < ttl_at(offset) * 3 / 4 then
    set_ttl(offset)
  end
end

-- Returns { epoch, offset, tag, since } of the feed and creates the feed where it does not exist.
-- `since`: events from before this time may be missing from KEYS[3].
--
-- The meta hash decides whether the feed exists. What the other keys still hold without it (eviction can
-- remove a single key) belongs to an earlier epoch and is deleted before the new epoch is written.
local function open_feed()
  local meta = redis.call('HMGET', KEYS[1], 'epoch', 'offset', 'tag', 'since')
  if meta[1] then
    renew_ttl(meta[2])
    return meta
  end
  redis.call('DEL', KEYS[2], KEYS[3], KEYS[4])
  meta = { new_epoch, '0', '00000000', now }
  redis.call('HSET', KEYS[1], 'epoch', meta[1], 'offset', meta[2], 'tag', meta[3], 'since', meta[4])
  set_ttl(meta[2])
  return meta
end
