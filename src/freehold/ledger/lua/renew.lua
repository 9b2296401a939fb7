-- The heartbeat of an owner. ARGV: now, owner, lease_s.

redis.call('ZADD', key('owners'), seconds(NOW + tonumber(ARGV[3])), ARGV[2])
