-- How far a request is. ARGV: now, id. Returns state, attempt, result or '', chunks, milliseconds since it was
-- accepted; nothing if it is unknown.

local r = get(ARGV[2], 'state', 'attempt', 'result', 'accepted')
if not r[1] then
    return {}
end
return {r[1], r[2], r[3] or '', redis.call('LRANGE', key('p', ARGV[2]), 0, -1), seconds((NOW - tonumber(r[4])) * 1000)}
