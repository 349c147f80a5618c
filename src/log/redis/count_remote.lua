-- count_remote: counts the subscribers of a feed in all other processes.
--
-- KEYS, ARGV: as in presence_prelude.lua.
--
-- | returns | meaning                                                    |
-- | ------- | ---------------------------------------------------------- |
-- | integer | the sum of the unexpired reports, without the caller's own |
--
-- Atomicity: one HGETALL reads all reports. Writes nothing, so it also works on a server that refuses writes.
local total = 0
local reports = redis.call('HGETALL', KEYS[1])
for i = 1, #reports, 2 do
  if reports[i] ~= process then
    total = total + (count_of(reports[i + 1]) or 0)
  end
end
return total
