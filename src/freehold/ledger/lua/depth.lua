-- How much lies here. ARGV: now, models. Returns the time, queued, running, when the oldest was accepted or '', tokens,
-- bytes.

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
return {seconds(NOW), queued, running, oldest and seconds(oldest) or '', tokens, bytes}
