-- Who is there: each place keeps a name of its own for as long as it comes by, and gateways are posted likewise. ARGV:
-- now, seconds it holds, id of the place (empty: only look), the name it would like, 1 if workers are there, a gateway's
-- post (or empty), a secret to be taken if there is none, 1 to leave. Returns the name, the secret, the posts, and how
-- many places have workers.
--
--   PREFIX:places  ids by until when;  PREFIX:names  name -> id;  PREFIX:works  ids of those with workers
--   PREFIX:gateways  posts by until when;  PREFIX:secret

local ends, id, wanted, works, post, secret, leaves = seconds(NOW + tonumber(ARGV[2])), unpack(ARGV, 3, 8)

local function name_of(place)
    local found = redis.call('HGETALL', key('names'))
    for i = 1, #found, 2 do
        if found[i + 1] == place then
            return found[i]
        end
    end
end

local function gone(place)
    local name = name_of(place)
    if name then
        redis.call('HDEL', key('names'), name)
    end
    redis.call('ZREM', key('places'), place)
    redis.call('SREM', key('works'), place)
end

for _, place in ipairs(redis.call('ZRANGEBYSCORE', key('places'), '-inf', seconds(NOW))) do
    gone(place)
end
redis.call('ZREMRANGEBYSCORE', key('gateways'), '-inf', seconds(NOW))
if leaves == '1' then
    if id ~= '' then
        gone(id)
    end
    if post ~= '' then
        redis.call('ZREM', key('gateways'), post)
    end
else
    if id ~= '' then
        if not name_of(id) then
            local name, number = wanted, 1
            while redis.call('HSETNX', key('names'), name, id) == 0 do
                number = number + 1
                name = wanted .. '-' .. number
            end
        end
        redis.call('ZADD', key('places'), ends, id)
        if works == '1' then
            redis.call('SADD', key('works'), id)
        end
    end
    if post ~= '' then
        redis.call('ZADD', key('gateways'), ends, post)
    end
    redis.call('SET', key('secret'), secret, 'NX')
end
return {
    id ~= '' and name_of(id) or '', redis.call('GET', key('secret')), redis.call('ZRANGE', key('gateways'), 0, -1),
    redis.call('SCARD', key('works')),
}
