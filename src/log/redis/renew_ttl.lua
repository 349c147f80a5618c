-- renew_ttl: keeps an existing feed from expiring. Unlike the other scripts it never creates one.
--
-- KEYS, ARGV: as in feed_prelude.lua.
--
-- Returns nil.
--
-- Atomicity: the feed cannot expire between the check and the renewal, which would leave keys without meta.
local offset = redis.call('HGET', KEYS[1], 'offset')
if offset then
  renew_ttl(offset)
end
