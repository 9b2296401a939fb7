-- ARGV: now.
return redis.call('GET', key('folder-bytes')) or '0'
