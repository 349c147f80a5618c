-- Keeps the log from expiring, where there is one.
local offset = redis.call('HGET', KEYS[1], 'offset')
if offset then
  renew(offset)
end
