-- ARGV: now, id.
return redis.call('ZRANGE', key('fn', ARGV[2]), 0, -1)
