-- Answers with the log's end and, where it can prove the way from the given position, what follows it.
local epoch, offset, tag, limit = ARGV[5], ARGV[6], ARGV[7], ARGV[8]

local meta = open()
local lost = { 0, meta[1], meta[2], meta[3], {} }
local missed = tonumber(meta[2]) - tonumber(offset)
if epoch ~= meta[1] or missed < 0 then
  return lost
end
if missed == 0 then
  return { tag == meta[3] and 1 or 0, meta[1], meta[2], meta[3], {} }
end
local first = whole(tonumber(offset) + 1) .. '-0'
local entries = redis.call('XRANGE', KEYS[2], first, '+', 'COUNT', limit)
-- Each entry names its predecessor's tag: the first one proves that the position is of this history.
if not entries[1] or entries[1][1] ~= first or entries[1][2][4] ~= tag then
  return lost
end
return { 1, meta[1], meta[2], meta[3], entries }
