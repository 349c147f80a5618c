-- read_after: returns the entries that follow a position, if the feed can prove that none is missing.
--
-- KEYS: as in feed_prelude.lua.
--
-- | ARGV | holds                          |
-- | ---- | ------------------------------ |
-- | 5    | the epoch of the position      |
-- | 6    | the offset of the position     |
-- | 7    | the tag of the position        |
-- | 8    | maximum number of entries      |
--
-- | returns                            | meaning                                                      |
-- | ---------------------------------- | ------------------------------------------------------------ |
-- | { 1, epoch, offset, tag, entries } | the end of the feed, and the entries that follow             |
-- | { 0, epoch, offset, tag, {} }      | the end; the position is of another history or trimmed away  |
--
-- Atomicity: the end and the entries come from the same state of the feed.
--
-- Order of the steps: the epoch and the offset are compared with the end first, which needs no read of the
-- stream. At the end itself the tags are compared. Before the end, the first entry that follows proves the
-- position: it must exist (it was not trimmed) and name the position's tag as its predecessor's.
local epoch, offset, tag, limit = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

local meta = open_feed()
local lost = { 0, meta[1], meta[2], meta[3], {} }
local missed = tonumber(meta[2]) - tonumber(offset)
if epoch ~= meta[1] or missed < 0 then
  return lost
end
if missed == 0 then
  return { tag == meta[3] and 1 or 0, meta[1], meta[2], meta[3], {} }
end
local first = format_integer(tonumber(offset) + 1) .. '-0'
local entries = redis.call('XRANGE', KEYS[2], first, '+', 'COUNT', limit)
if not entries[1] or entries[1][1] ~= first or entries[1][2][4] ~= tag then
  return lost
end
return { 1, meta[1], meta[2], meta[3], entries }
