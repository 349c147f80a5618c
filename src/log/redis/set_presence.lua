-- set_presence: records how many subscribers a feed has in the calling process.
--
-- KEYS, ARGV 1 and 2: as in presence_prelude.lua.
--
-- | ARGV | holds                                             |
-- | ---- | ------------------------------------------------- |
-- | 3    | number of subscribers; `0` removes the process    |
--
-- Returns nil.
--
-- Atomicity: a report that another process renews at the same time is not removed as expired.
--
-- Order of the steps: the caller's report is written first, so that the clean-up keeps it.
local count = ARGV[3]

if count == '0' then
  redis.call('HDEL', KEYS[1], process)
else
  redis.call('HSET', KEYS[1], process, count .. ' ' .. now)
  redis.call('EXPIRE', KEYS[1], presence_ttl)
end
-- The TTL applies to the whole hash: while any process reports, this removes the reports of ended processes.
local reports = redis.call('HGETALL', KEYS[1])
for i = 1, #reports, 2 do
  if not count_of(reports[i + 1]) then
    redis.call('HDEL', KEYS[1], reports[i])
  end
end
