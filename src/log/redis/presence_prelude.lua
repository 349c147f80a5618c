-- Shared beginning of the scripts about presence in one feed: prepended to set_presence and count_remote.
--
-- | KEYS | type | holds                                                   |
-- | ---- | ---- | ------------------------------------------------------- |
-- | 1    | hash | process id -> `<subscribers> <Unix time of the report>` |
--
-- | ARGV | holds                                          |
-- | ---- | ---------------------------------------------- |
-- | 1    | the id of the calling process                  |
-- | 2    | TTL of a report, seconds                       |
--
-- Times are the server's: the clocks of the processes may differ.
local process, presence_ttl = ARGV[1], tonumber(ARGV[2])
local now = redis.call('TIME')[1]

-- Returns the number of subscribers in a report, or nil if the report is malformed or has expired.
local function count_of(report)
  local count, at = string.match(report, '^(%d+) (%d+)$')
  return at and tonumber(at) >= tonumber(now) - presence_ttl and tonumber(count) or nil
end
