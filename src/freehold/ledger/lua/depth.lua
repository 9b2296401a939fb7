-- How much lies here. ARGV: now, models. Returns the time, queued, running, when the oldest was accepted or '', tokens,
-- bytes, and of one model the deadline of the request that is next.

local models = {}
for i = 2, #ARGV do
    models[#models + 1] = ARGV[i]
end
if #models == 0 then
    models = redis.call('SMEMBERS', key('models'))
end
local queued, running, oldest, tokens, bytes = 0, 0, nil, 0, 0
for _, model in ipairs(models) do
    queued = queued + redis.call('ZCARD', key('q', model))
    local d = redis.call('HMGET', key('d', model), 'running', 'tokens', 'bytes')
    running, tokens, bytes = running + (d[1] or 0), tokens + (d[2] or 0), bytes + (d[3] or 0)
    local first = redis.call('ZRANGE', key('age', model), 0, 0, 'WITHSCORES')
    if first[2] and (not oldest or tonumber(first[2]) < oldest) then
        oldest = tonumber(first[2])
    end
end
local due = 'inf'
if ARGV[2] and #ARGV == 2 then
    local member = redis.call('ZRANGEBYLEX', key('q', ARGV[2]), '-', '+', 'LIMIT', 0, 1)[1]
    due = member and get(string.sub(member, RANK + 2 * NUMBER + 1), 'due')[1] or due
end
return {seconds(NOW), queued, running, oldest and seconds(oldest) or '', tokens, bytes, due}
