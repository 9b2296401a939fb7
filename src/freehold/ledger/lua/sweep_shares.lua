-- A tenant that has fallen behind its lane's virtual time begins there: its share says nothing.

local shares = redis.call('HGETALL', key('shares'))
for i = 1, #shares, 2 do
    local lane = string.match(shares[i], '^(.*%z.*)%z') or ''
    if tonumber(shares[i + 1]) <= number('lanes', lane) then
        redis.call('HDEL', key('shares'), shares[i])
    end
end
