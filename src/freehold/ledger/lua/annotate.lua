-- Replace the meta of a request. ARGV: now, id, meta (msgpack). Returns 1, or 0 if it is unknown.

if redis.call('EXISTS', key('r', ARGV[2])) == 0 then
    return 0
end
set(ARGV[2], 'meta', ARGV[3])
return 1
