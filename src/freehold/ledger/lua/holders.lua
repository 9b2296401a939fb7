-- Every running request. Returns {owner, id, keep} of each.

local found = {}
for _, owner in ipairs(redis.call('ZRANGE', key('owners'), 0, -1)) do
    for _, id in ipairs(redis.call('SMEMBERS', key('o', owner))) do
        found[#found + 1] = {owner, id, get(id, 'keep')[1]}
    end
end
return found
