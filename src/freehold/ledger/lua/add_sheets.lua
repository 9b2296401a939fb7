-- ARGV: now, id, id of the fence or '', its version, then number and content of each. What is there stays. Returns 0 if
-- the folder isn't there or the fence doesn't stand in that version.

local id, added = ARGV[2], 0
if redis.call('EXISTS', key('f', id)) == 0 then
    return 0
end
if ARGV[3] ~= '' and redis.call('HGET', key('f', ARGV[3]), 'version') ~= ARGV[4] then
    return 0
end
for i = 5, #ARGV, 2 do
    if redis.call('HSETNX', key('fs', id), ARGV[i], ARGV[i + 1]) == 1 then
        redis.call('ZADD', key('fn', id), ARGV[i], ARGV[i])
        added = added + #ARGV[i + 1]
    end
end
redis.call('HINCRBY', key('f', id), 'bytes', added)
redis.call('INCRBY', key('folder-bytes'), added)
return 1
