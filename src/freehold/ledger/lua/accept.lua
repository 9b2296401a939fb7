-- Append requests, all or none. ARGV: now, key_s, 'again' if this call was made before, requests (msgpack), then head and
-- body of each. Returns their ids, or {'', why, id} if refused.

local requests = cmsgpack.unpack(ARGV[4])
local ids, fresh, batch, batch_keys = {}, {}, {}, {}

for i, request in ipairs(requests) do
    request.head, request.body = ARGV[3 + 2 * i], ARGV[4 + 2 * i]
    local known
    if request.key then
        known = batch_keys[request.key]
        local stored = redis.call('HMGET', request.key, 'id', 'fingerprint', 'until')
        if not known and stored[1] and tonumber(stored[3]) > NOW and redis.call('EXISTS', key('r', stored[1])) == 1 then
            known = {id = stored[1], fingerprint = stored[2]}
        end
        if known and known.fingerprint ~= request.fingerprint then
            return {'', 'key', known.id}
        end
    end
    if known then
        ids[i] = known.id
    else
        -- The same id with the same content is this very call, made again because its answer was lost.
        local body = get(request.id, 'body')[1]
        local again = body and ARGV[3] == 'again' and body == request.body
        if batch[request.id] or (not again and redis.call('EXISTS', key('r', request.id)) == 1) then
            return {'', 'id', request.id}
        end
        batch[request.id] = true
        ids[i] = request.id
        if not again then
            fresh[#fresh + 1] = request
        end
        if request.key then
            batch_keys[request.key] = request
        end
    end
end

for _, request in ipairs(fresh) do
    local lane = lane_of(request.model, request.priority)
    local share = lane .. '\0' .. request.tenant
    local tag = math.max(number('lanes', lane), number('shares', share))
    put_number('shares', share, tag + request.cost)
    local seq = redis.call('INCR', key('seq'))
    set(request.id, 'model', request.model, 'tenant', request.tenant, 'lot', request.lot, 'priority', request.priority,
        'rank', request.rank, 'due', request.due, 'tag', string.format('%.0f', tag), 'cost', request.cost,
        'bytes', #request.body, 'answers', request.answers, 'keep', request.keep, 'attempt', 0, 'cancel', 0,
        'deaths', 0, 'delivered', 0, 'accepted', seconds(NOW), 'seq', seq, 'head', request.head, 'body', request.body)
    enqueue(request.id)
    redis.call('SADD', key('models'), request.model)
    redis.call('ZADD', key('all'), seq, request.id)
    if request.due ~= 'inf' then
        redis.call('ZADD', key('due'), request.due, request.id)
    end
    if request.key then
        local until_s = seconds(NOW + tonumber(ARGV[2]))
        local former = redis.call('HGET', request.key, 'id')
        if former and redis.call('EXISTS', key('r', former)) == 1 then
            redis.call('HDEL', key('r', former), 'idempotency') -- its time is over
        end
        redis.call('HSET', request.key, 'id', request.id, 'fingerprint', request.fingerprint, 'until', until_s)
        redis.call('ZADD', key('keys'), until_s, request.key)
        set(request.id, 'idempotency', request.key)
    end
end
return ids
