-- Every broken promise in words. Looks at all that is stored, and nothing else happens meanwhile: about a second for
-- each 50,000 requests.

local wrong = {}
local function complain(id, what)
    wrong[#wrong + 1] = id .. ' ' .. what
end

local sums, queued, running, kept, others = {}, 0, 0, 0, 0
for _, id in ipairs(redis.call('ZRANGE', key('all'), 0, -1)) do
    local r = get(id, 'state', 'model', 'owner', 'attempt', 'result', 'ended', 'keep', 'delivered', 'member', 'cost', 'bytes')
    local state, model = r[1], r[2]
    local has_body = redis.call('HEXISTS', key('r', id), 'body') == 1
    local sum = sums[model or ''] or {queued = 0, running = 0, tokens = 0, bytes = 0}
    sums[model or ''] = sum
    if state == '0' then
        queued = queued + 1
        sum.queued, sum.tokens, sum.bytes = sum.queued + 1, sum.tokens + r[10], sum.bytes + r[11]
        if not redis.call('ZSCORE', key('q', model), r[9]) then complain(id, 'waits in no queue') end
        if not redis.call('ZSCORE', key('age', model), id) then complain(id, 'waits without its age') end
    elseif state == '1' then
        running, sum.running = running + 1, sum.running + 1
        if r[3] == '' or tonumber(r[4]) < 1 then complain(id, 'runs without a worker') end
        if redis.call('SISMEMBER', key('o', r[3]), id) == 0 then complain(id, 'runs and nobody holds it') end
        if not redis.call('ZSCORE', key('owners'), r[3]) then complain(id, 'runs without a lease') end
    elseif state == '2' then
        if not (r[5] and r[6]) then complain(id, 'is done without a result') end
        local place = r[7] == '1' and 'kept' or 'others'
        if not redis.call('ZSCORE', key(place), id) then complain(id, 'is done and will never be swept') end
        local pieces = redis.call('EXISTS', key('p', id)) == 1
        if r[8] == '1' and (pieces or (r[7] == '0' and has_body)) then
            complain(id, 'is done and delivered but its content was left behind')
        end
    else
        complain(id, 'is ' .. tostring(state) .. ', which is no state')
    end
    if state ~= '2' and r[5] then complain(id, 'has a result but is not done') end
    if (state ~= '2' or r[7] == '1') and not has_body then complain(id, 'waits or runs without its content') end
end

for _, model in ipairs(redis.call('SMEMBERS', key('models'))) do
    local sum = sums[model] or {queued = 0, running = 0, tokens = 0, bytes = 0}
    local d = redis.call('HMGET', key('d', model), 'running', 'tokens', 'bytes')
    if redis.call('ZCARD', key('q', model)) ~= sum.queued or redis.call('ZCARD', key('age', model)) ~= sum.queued then
        complain(model, 'has a queue of another length than its requests')
    end
    if tonumber(d[1] or 0) ~= sum.running or tonumber(d[2] or 0) ~= sum.tokens or tonumber(d[3] or 0) ~= sum.bytes then
        complain(model, 'has wrong sums')
    end
end
for _, name in ipairs(redis.call('ZRANGE', key('keys'), 0, -1)) do
    local id = redis.call('HGET', name, 'id')
    if not id or redis.call('EXISTS', key('r', id)) == 0 then complain(name, 'belongs to no request') end
end
local all_bytes = 0
for _, id in ipairs(redis.call('ZRANGE', key('fu'), 0, -1)) do
    local size = 0
    for _, content in ipairs(redis.call('HVALS', key('fs', id))) do
        size = size + #content
    end
    all_bytes = all_bytes + size
    if tonumber(redis.call('HGET', key('f', id), 'bytes')) ~= size then complain(id, 'has a wrong count of bytes') end
    if redis.call('HLEN', key('fs', id)) ~= redis.call('ZCARD', key('fn', id)) then complain(id, 'has lost sheets') end
end
if tonumber(redis.call('GET', key('folder-bytes')) or 0) ~= all_bytes then complain('folders', 'have wrong sums') end
return wrong
