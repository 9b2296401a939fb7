-- An owner's life is over. ARGV: now, owner, deaths, most deaths, 'late' to spare one whose lease stands, {id, attempt,
-- parts} of what was seen (msgpack), the results of a cancelled one, an overdue, a poisoned, one read to its end,
-- then the chunks.
-- Returns the ids requeued, poisoned, ended, and those that are complete: the caller makes their results of their
-- chunks and finishes them, and should it die first, they are still the owner's, whose lease is over.

local owner, deaths, most = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local requeued, poisoned, ended, whole = {}, {}, {}, {}
local lease = redis.call('ZSCORE', key('owners'), owner)
if ARGV[5] == 'late' and lease and tonumber(lease) > NOW then
    return {requeued, poisoned, ended, whole}
end

for _, progress in ipairs(cmsgpack.unpack(ARGV[6])) do
    local id, attempt, parts = unpack(progress)
    local r = get(id, 'state', 'attempt', 'owner')
    if r[1] == '1' and tonumber(r[2]) == attempt and r[3] == owner then
        append(id, parts, 11)
    end
end

local held = redis.call('SMEMBERS', key('o', owner))
local arrival = {}
for _, id in ipairs(held) do
    arrival[id] = tonumber(get(id, 'seq')[1])
end
table.sort(held, function(a, b) return arrival[a] < arrival[b] end)

for _, id in ipairs(held) do
    local r = get(id, 'answers', 'cancel', 'accepted', 'deaths', 'delivered', 'seq')
    local died = tonumber(r[4]) + deaths
    if complete(id, tonumber(r[1])) then
        whole[#whole + 1] = id
    else
        release(id)
        if r[2] ~= '0' or r[5] == '1' then
            local result = r[2] == '2' and ARGV[8] or (r[2] == '1' and ARGV[7] or ARGV[10])
            done(id, timed(result, r[3], false))
            ended[#ended + 1] = id
        elseif died >= most then
            set(id, 'deaths', died, 'keep', 1)
            redis.call('ZADD', key('poisoned'), r[6], id)
            done(id, timed(ARGV[9], r[3], false))
            poisoned[#poisoned + 1] = id
        else
            set(id, 'deaths', died)
            enqueue(id)
            requeued[#requeued + 1] = id
        end
    end
end

if #whole > 0 then
    redis.call('ZADD', key('owners'), 0, owner)
else
    redis.call('ZREM', key('owners'), owner)
    redis.call('DEL', key('c', owner))
end
return {requeued, poisoned, ended, whole}
