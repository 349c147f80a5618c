-- What every script about watchers begins with. KEYS: watchers. The clock is the server's: those of the
-- processes may differ.
local process, fresh = ARGV[1], tonumber(ARGV[2])
local now = redis.call('TIME')[1]

-- What a note counts ('<watchers> <second>'), if it is fresh.
local function count_of(note)
  local count, at = string.match(note, '^(%d+) (%d+)$')
  return at and tonumber(at) >= tonumber(now) - fresh and tonumber(count) or nil
end
