-- Owners whose lease is over. ARGV: now, longest pause of the asker, lease_s. If nobody asked for longer than that, the store was
-- out of reach and heartbeats were not heard: then every lease begins anew.

local before = tonumber(redis.call('GET', key('asked')) or NOW)
redis.call('SET', key('asked'), seconds(NOW))
local late = redis.call('ZRANGEBYSCORE', key('owners'), '-inf', seconds(NOW))
if NOW - before <= tonumber(ARGV[2]) then
    return late
end
for _, owner in ipairs(late) do
    redis.call('ZADD', key('owners'), seconds(NOW + tonumber(ARGV[3])), owner)
end
return {}
