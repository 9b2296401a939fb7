-- ARGV: now, id, kind, version, tenant, label, until. Returns 1, or 0 if it isn't there in that version. Made again after
-- an answer that was lost, the same call is answered as it was the first time.

local id, kind, version, tenant, label = ARGV[2], ARGV[3], tonumber(ARGV[4]), ARGV[5], ARGV[6]
local f = redis.call('HMGET', key('f', id), 'version', 'kind', 'tenant', 'seq', 'label', 'until')
local stands = tonumber(f[1] or 0)
if stands == version + 1 and f[2] == kind and f[3] == tenant and f[5] == label and f[6] == ARGV[7] then
    return 1
end
if stands ~= version or (f[2] and f[2] ~= kind) then
    return 0
end
local seq = f[4] or redis.call('INCR', key('folder-seq'))
if f[3] and f[3] ~= tenant then
    redis.call('ZREM', key('fk', kind, f[3]), id)
end
redis.call('ZADD', key('fk', kind, tenant), seq, id)
redis.call('ZADD', key('fu'), ARGV[7], id)
redis.call('HSET', key('f', id), 'kind', kind, 'tenant', tenant, 'label', label, 'until', ARGV[7], 'version', version + 1,
    'seq', seq)
redis.call('HINCRBY', key('f', id), 'bytes', 0)
return 1
