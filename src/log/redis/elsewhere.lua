-- Answers with how many watch a feed in other processes.
local watchers = 0
local notes = redis.call('HGETALL', KEYS[1])
for i = 1, #notes, 2 do
  if notes[i] ~= process then
    watchers = watchers + (count_of(notes[i + 1]) or 0)
  end
end
return watchers
