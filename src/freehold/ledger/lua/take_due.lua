-- ARGV: now, kind, lease_s, most. Returns {id, blob} of each note that is due; nobody else gets it for `lease_s`.

local name, found = key('n', ARGV[2]), {}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', name, '-inf', seconds(NOW), 'LIMIT', 0, tonumber(ARGV[4]))) do
    redis.call('ZADD', name, seconds(NOW + tonumber(ARGV[3])), id)
    found[#found + 1] = {id, redis.call('HGET', key('nb', ARGV[2]), id)}
end
return found
