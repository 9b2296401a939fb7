-- ARGV: now, kind, id.
redis.call('ZREM', key('n', ARGV[2]), ARGV[3])
redis.call('HDEL', key('nb', ARGV[2]), ARGV[3])
