-- Take queued requests in order. ARGV: now, owner, limit, model, first lot, lot after the last, call number, lease_s,
-- rank of no deadline. Returns the time, then {attempt, accepted, body, meta, chunks} of each.

local owner, limit, model = ARGV[2], tonumber(ARGV[3]), ARGV[4]
local lot_from, lot_to, call, lease_s, no_deadline = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8]), ARGV[9]
local PAGE = 64

-- The same call again, because its answer was lost on the way: the same answer again.
local function repeated()
    local last = redis.call('HMGET', key('c', owner), 'call', 'ids')
    if last[1] ~= call then
        return nil
    end
    local ids = {}
    for _, id in ipairs(cmsgpack.unpack(last[2])) do
        local r = get(id, 'state', 'owner')
        if r[1] == '1' and r[2] == owner then
            ids[#ids + 1] = id
        end
    end
    return ids
end

-- As `order.take`: the first however wide, and nobody overtakes one that doesn't fit.
local function next_ids()
    local ids, used, start = {}, 0, 0
    while limit > 0 do
        local page = redis.call('ZRANGEBYLEX', key('q', model), '-', '+', 'LIMIT', start, PAGE)
        for _, member in ipairs(page) do
            local id = string.sub(member, RANK + 2 * NUMBER + 1)
            local r = get(id, 'lot', 'due', 'answers')
            local lot, answers = tonumber(r[1]), tonumber(r[3])
            if lot >= lot_from and lot < lot_to and (r[2] == 'inf' or tonumber(r[2]) > NOW) then
                if #ids > 0 and used + answers > limit then
                    return ids
                end
                ids[#ids + 1] = id
                used = used + answers
                if used >= limit then
                    return ids
                end
            end
        end
        if #page < PAGE then
            break
        end
        start = start + PAGE
    end
    return ids
end

-- As `order.advanced`: who went first for its deadline moves the time no further than to the first that still waits.
local function advance(ids)
    for _, id in ipairs(ids) do
        local r = get(id, 'priority', 'tag', 'due', 'rank')
        local lane, tag = lane_of(model, r[1]), tonumber(r[2])
        if r[3] ~= 'inf' then
            local from = string.sub(r[4], 1, RANK - #no_deadline) .. no_deadline
            local waiting = redis.call('ZRANGEBYLEX', key('q', model), '[' .. from, '(' .. from .. '\255', 'LIMIT', 0, 1)
            if waiting[1] then
                tag = math.min(tag, tonumber(string.sub(waiting[1], RANK + 1, RANK + NUMBER)))
            end
        end
        if tag > number('lanes', lane) then
            put_number('lanes', lane, tag)
        end
    end
end

local ids = repeated()
if not ids then
    ids = next_ids()
    for _, id in ipairs(ids) do
        dequeue(id)
        hold(id, owner, tonumber(get(id, 'attempt')[1]) + 1)
    end
    advance(ids)
    if #ids > 0 then
        redis.call('HSET', key('c', owner), 'call', call, 'ids', cmsgpack.pack(ids))
        redis.call('ZADD', key('owners'), 'GT', seconds(NOW + lease_s), owner)
    end
end

local claims = {seconds(NOW)}
for _, id in ipairs(ids) do
    local r = get(id, 'attempt', 'accepted', 'body', 'meta')
    claims[#claims + 1] = {r[1], r[2], r[3], r[4] or '', redis.call('LRANGE', key('p', id), 0, -1)}
end
return claims
