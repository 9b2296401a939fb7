-- End queued requests whose deadline has passed, mark running ones. ARGV: now, the result of one that never ran, of one
-- that did. Returns the ids of those ended.

local ids = {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', key('due'), '-inf', seconds(NOW))) do
    local r = get(id, 'state', 'attempt', 'accepted', 'cancel')
    if r[1] == '0' then
        dequeue(id)
        if r[2] == '0' then
            settle(id, 0)
        end
        done(id, timed(r[2] == '0' and ARGV[2] or ARGV[3], r[3], r[2] == '0'))
        ids[#ids + 1] = id
    elseif r[4] == '0' then
        set(id, 'cancel', 2)
    end
end
return ids
