-- append: gives an event the next offset of its feed, unless the feed already has it or a newer one.
--
-- KEYS: as in feed_prelude.lua.
--
-- | ARGV | holds                                                                                     |
-- | ---- | ----------------------------------------------------------------------------------------- |
-- | 5    | the tag of the new entry, 8 hexadecimal digits                                            |
-- | 6    | the object key                                                                            |
-- | 7    | the sequencer as upper-case hexadecimal that sorts as text, in any locale; empty if none  |
-- | 8    | the time of the event, microseconds; empty if none                                        |
-- | 9    | `1` if the bucket confirmed the event, else `0`                                           |
-- | 10   | the event, JSON                                                                           |
-- | 11   | maximum number of entries of the feed                                                     |
-- | 12   | maximum number of object keys in KEYS[3]                                                  |
-- | 13   | how long KEYS[3] keeps an object key, microseconds                                        |
-- | 14   | maximum number of entries of the shard's tail, approximate                                |
--
-- | returns                        | meaning                                                             |
-- | ------------------------------ | ------------------------------------------------------------------- |
-- | { 'appended', epoch, offset }  | the event is entry `offset`                                         |
-- | { 'duplicate', epoch, offset } | the event is the latest recorded one of its key; nothing written    |
-- | { 'stale', epoch, offset }     | a newer event of the key is recorded; nothing written               |
-- | { 'unproven', epoch, offset }  | the records do not reach back to the event; the bucket must confirm |
--
-- Atomicity: comparing, numbering and writing happen in one script. Two processes that offer the same event
-- at the same time get one 'appended' and one 'duplicate', and no offset is used twice or skipped.
--
-- Order of the steps:
--   1. Open the feed: without an epoch there is nothing to number.
--   2. Compare with the recorded event of the key. A duplicate is a duplicate however old it is, so this
--      precedes the check of step 3.
--   3. Require the bucket's confirmation for an event that is older than the records.
--   4. Write the entry, the shard's tail, the record of the key and the end, in this order: the end never
--      names an entry that is not stored. Redis refuses a write for lack of memory only where it is the
--      first of a script, so never between these.
local tag = ARGV[5]
local key, sequencer, time, confirmed, event = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local max_entries, max_seen, seen_ttl, max_tail = ARGV[11], tonumber(ARGV[12]), tonumber(ARGV[13]), ARGV[14]
-- Bounds the duration of a single append.
local MAX_REMOVALS = 1000

-- Compares the event with the recorded one, by sequencer if both have one, else by time. Returns nil for a
-- newer event, and if neither can be compared.
local function compare(seen)
  local seen_sequencer, seen_time = string.match(seen, '^(%x*) (%-?%d*)$')
  if seen_sequencer ~= '' and sequencer ~= '' then
    if sequencer == seen_sequencer then return 'duplicate' end
    return sequencer < seen_sequencer and 'stale' or nil
  end
  if seen_time ~= '' and time ~= '' then
    local offered, recorded = tonumber(time), tonumber(seen_time)
    if offered == recorded then return 'duplicate' end
    return offered < recorded and 'stale' or nil
  end
  return nil
end

-- Records the event and removes records that are too old or too many. Returns the new `since`: the time of
-- the latest record removed, if that is later.
local function record_seen(since)
  redis.call('HSET', KEYS[3], key, sequencer .. ' ' .. time)
  redis.call('ZADD', KEYS[4], now, key)
  local excess = redis.call('ZCARD', KEYS[4]) - max_seen
  local oldest = tonumber(now) - seen_ttl
  -- One at a time: usually there is none or one to remove.
  for _ = 1, MAX_REMOVALS do
    local candidate, recorded_at = unpack(redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES'))
    if not candidate or (tonumber(recorded_at) >= oldest and excess <= 0) then break end
    redis.call('ZREM', KEYS[4], candidate)
    redis.call('HDEL', KEYS[3], candidate)
    excess = excess - 1
    if tonumber(recorded_at) > tonumber(since) then since = recorded_at end
  end
  return since
end

-- Returns the next id of the shard's tail, `<tail epoch>-<number>`. The tail epoch is the time at which the
-- tail was created, milliseconds: if the tail is lost, the ids of its successor sort after every id that a
-- reader holds.
local function next_tail_id()
  local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
  if last then
    local epoch, number = string.match(last[1], '^(%d+)-(%d+)$')
    return epoch .. '-' .. format_integer(tonumber(number) + 1)
  end
  local clock = redis.call('TIME')
  return format_integer(tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)) .. '-1'
end

-- Returns since when this feed has been on the current server process, or nil if the process has never
-- changed. A restarted server, or a replica that took over, may lack the last appends and the records that
-- they left: events from before the change need confirmation. `life` holds the run id of the server, `whole`
-- the time of the last change.
local function same_server_since()
  local run_id = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local known = redis.call('HMGET', KEYS[1], 'life', 'whole')
  if known[1] == run_id then return known[2] end
  redis.call('HSET', KEYS[1], 'life', run_id)
  if not known[1] then return nil end
  redis.call('HSET', KEYS[1], 'whole', now)
  return now
end

local function needs_confirmation(since)
  return since and confirmed == '0' and (time == '' or tonumber(time) < tonumber(since))
end

local meta = open_feed()
local server_since = same_server_since()
local since = meta[4]
if tonumber(meta[2]) > 0 and redis.call('EXISTS', KEYS[3]) == 0 then
  -- Only the records were lost (evicted): they start over.
  since = now
end
local seen = redis.call('HGET', KEYS[3], key)
if seen then
  local outcome = compare(seen)
  if outcome then
    return { outcome, meta[1], meta[2] }
  end
end
if needs_confirmation(server_since) or (not seen and needs_confirmation(since)) then
  return { 'unproven', meta[1], meta[2] }
end

local offset = format_integer(tonumber(meta[2]) + 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '=', max_entries, offset .. '-0', 't', tag, 'p', meta[3], 'e', event)
redis.call('XADD', KEYS[5], 'MAXLEN', '~', max_tail, next_tail_id(),
  't', tag, 'p', meta[3], 'e', event, 'o', offset, 'l', meta[1])
redis.call('HSET', KEYS[1], 'offset', offset, 'tag', tag, 'since', record_seen(since))
set_ttl(offset)
redis.call('EXPIRE', KEYS[5], used_ttl)
return { 'appended', meta[1], offset }
