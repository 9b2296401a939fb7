-- ARGV: now, kind, tenant, limit, id to start after or '', 'newest' or 'oldest'.

local name, limit = key('fk', ARGV[2], ARGV[3]), tonumber(ARGV[4])
local after = ARGV[5] ~= '' and redis.call('HGET', key('f', ARGV[5]), 'seq')
local ids
if ARGV[6] == 'oldest' then
    ids = redis.call('ZRANGEBYSCORE', name, after and '(' .. after or '-inf', '+inf', 'LIMIT', 0, limit)
else
    ids = redis.call('ZREVRANGEBYSCORE', name, after and '(' .. after or '+inf', '-inf', 'LIMIT', 0, limit)
end
local found = {}
for _, id in ipairs(ids) do
    found[#found + 1] = folder_row(id)
end
return found
