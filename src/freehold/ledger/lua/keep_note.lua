-- ARGV: now, kind, id, seconds until it is due, blob.
redis.call('ZADD', key('n', ARGV[2]), seconds(NOW + tonumber(ARGV[4])), ARGV[3])
redis.call('HSET', key('nb', ARGV[2]), ARGV[3], ARGV[5])
