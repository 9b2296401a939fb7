-- Drop a bounded bite of what is past its time. ARGV: now, how old of the kept, of the others, offset among the kept, among the
-- others, most. Those with an idempotency key that stands are passed over. Returns dropped, passed over of each kind,
-- and how many unread were forgotten.

local most = tonumber(ARGV[6])

for _, name in ipairs(redis.call('ZRANGEBYSCORE', key('keys'), '-inf', seconds(NOW), 'LIMIT', 0, most)) do
    local id = redis.call('HGET', name, 'id')
    if id and redis.call('EXISTS', key('r', id)) == 1 then
        redis.call('HDEL', key('r', id), 'idempotency')
    end
    redis.call('DEL', name)
    redis.call('ZREM', key('keys'), name)
end

for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('fu'), '-inf', seconds(NOW), 'LIMIT', 0, most)) do
    drop_folder(id)
end

local function before(age_s)
    return '(' .. seconds(NOW - tonumber(age_s))
end

local function bite(name, age_s, offset)
    local dropped, passed = 0, 0
    for _, id in ipairs(redis.call('ZRANGEBYSCORE', key(name), '-inf', before(age_s), 'LIMIT', offset, most)) do
        if get(id, 'idempotency')[1] then
            passed = passed + 1
        else
            drop(id)
            dropped = dropped + 1
        end
    end
    return dropped, passed
end

local kept, kept_passed = bite('kept', ARGV[2], ARGV[4])
local others, others_passed = bite('others', ARGV[3], ARGV[5])
local unread = redis.call('ZRANGEBYSCORE', key('unread'), '-inf', before(ARGV[3]), 'LIMIT', 0, most)
for _, id in ipairs(unread) do
    forget(id)
end
return {kept + others, kept_passed, others_passed, #unread}
