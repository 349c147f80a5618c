-- Gives an event the next place, if it is new.
local tag = ARGV[5]
local key, sequencer, time, proven, event = ARGV[6], ARGV[7], ARGV[8], ARGV[9], ARGV[10]
local entries, seen_length, seen_for, tail_length = ARGV[11], tonumber(ARGV[12]), tonumber(ARGV[13]), ARGV[14]
-- Keys that one append forgets at most, so that none takes long.
local FORGET = 1000

-- How the event stands to what is remembered of its key ('<sequencer> <time>', either may be empty): by
-- the sequencers, else by the times. Sequencers come as upper-case hexadecimal whose order is that of
-- the text, in whatever locale the server compares.
local function judge(seen)
  local seen_sequencer, seen_time = string.match(seen, '^(%x*) (%-?%d*)$')
  if seen_sequencer ~= '' and sequencer ~= '' then
    if sequencer == seen_sequencer then return 'duplicate' end
    return sequencer < seen_sequencer and 'stale' or nil
  end
  if seen_time ~= '' and time ~= '' then
    local offered, known = tonumber(time), tonumber(seen_time)
    if offered == known then return 'duplicate' end
    return offered < known and 'stale' or nil
  end
  return nil
end

-- Remembers the event; forgets what is too old or too much. Gives back since when all is remembered.
local function remember(since)
  redis.call('HSET', KEYS[3], key, sequencer .. ' ' .. time)
  redis.call('ZADD', KEYS[4], now, key)
  local too_many = redis.call('ZCARD', KEYS[4]) - seen_length
  local oldest = tonumber(now) - seen_for
  -- One after the other: mostly none or one is due.
  for _ = 1, FORGET do
    local candidate, then_ = unpack(redis.call('ZRANGE', KEYS[4], 0, 0, 'WITHSCORES'))
    if not candidate or (tonumber(then_) >= oldest and too_many <= 0) then break end
    redis.call('ZREM', KEYS[4], candidate)
    redis.call('HDEL', KEYS[3], candidate)
    too_many = too_many - 1
    if tonumber(then_) > tonumber(since) then since = then_ end
  end
  return since
end

-- The next id of the shard's tail: '<epoch>-<number>'. The epoch is the time at which the tail began, so
-- that the ids of a tail that was lost and began anew come after all that any reader has seen.
local function next_in_tail()
  local last = redis.call('XREVRANGE', KEYS[5], '+', '-', 'COUNT', 1)[1]
  if last then
    local epoch, number = string.match(last[1], '^(%d+)-(%d+)$')
    return epoch .. '-' .. whole(tonumber(number) + 1)
  end
  local clock = redis.call('TIME')
  return whole(tonumber(clock[1]) * 1000 + math.floor(tonumber(clock[2]) / 1000)) .. '-1'
end

-- Since when this server is known to have forgotten nothing, where it has ever begun anew: it may have
-- come back without the last appends, and with them without what they taught of their keys. So may the
-- one that took its place.
local function whole_since()
  local life = string.match(redis.call('INFO', 'server'), 'run_id:(%x+)')
  local known = redis.call('HMGET', KEYS[1], 'life', 'whole')
  if known[1] == life then return known[2] end
  redis.call('HSET', KEYS[1], 'life', life)
  if not known[1] then return nil end
  redis.call('HSET', KEYS[1], 'whole', now)
  return now
end

local function needs_proof(since)
  return since and proven == '0' and (time == '' or tonumber(time) < tonumber(since))
end

local meta = open()
local trusted = whole_since()
local since = meta[4]
if tonumber(meta[2]) > 0 and redis.call('EXISTS', KEYS[3]) == 0 then
  -- The memory alone was lost (evicted): it begins anew.
  since = now
end
local seen = redis.call('HGET', KEYS[3], key)
if seen then
  local verdict = judge(seen)
  if verdict then
    return { verdict, meta[1], meta[2] }
  end
end
if needs_proof(trusted) or (not seen and needs_proof(since)) then
  return { 'unproven', meta[1], meta[2] }
end

local offset = whole(tonumber(meta[2]) + 1)
redis.call('XADD', KEYS[2], 'MAXLEN', '=', entries, offset .. '-0', 't', tag, 'p', meta[3], 'e', event)
redis.call('XADD', KEYS[5], 'MAXLEN', '~', tail_length, next_in_tail(),
  't', tag, 'p', meta[3], 'e', event, 'o', offset, 'l', meta[1])
redis.call('HSET', KEYS[1], 'offset', offset, 'tag', tag, 'since', remember(since))
touch(offset)
redis.call('EXPIRE', KEYS[5], life_of_used)
return { 'appended', meta[1], offset }
