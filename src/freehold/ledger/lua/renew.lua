-- The heartbeat of an owner. ARGV: now, owner, lease_s.

redis.call('HSET', key('leases'), ARGV[2], ARGV[3])
redis.call('ZADD', key('owners'), seconds(NOW + tonumber(ARGV[3])), ARGV[2])
