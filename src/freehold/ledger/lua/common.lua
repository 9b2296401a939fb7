-- What the scripts share; `redis_scripts.py` puts it before each of them. KEYS[1] is the prefix with its hash tag, from
-- which every other key's name is made: all lie in one slot of a cluster. ARGV[1] is the time, empty for the server's.
--
--   PREFIX:r:ID       one request: what `rows.columns` says, state, attempt, owner, result, t<choice> = tokens stored
--   PREFIX:p:ID       its pieces: a list of chunks
--   PREFIX:q:MODEL    the queue: members sort as they are served (rank, share's tag, arrival), the id at their end
--   PREFIX:age:MODEL  queued ids by when they were accepted;  PREFIX:d:MODEL  sums of what waits and runs
--   PREFIX:o:OWNER    ids an owner holds;  PREFIX:c:OWNER  its last claim;  PREFIX:owners  owners by end of lease
--   PREFIX:due        ids by deadline;  PREFIX:all, PREFIX:poisoned  ids by arrival
--   PREFIX:kept, PREFIX:others, PREFIX:unread  ended ids by when they ended
--   PREFIX:n:KIND     ids of notes by when they are due;  PREFIX:nb:KIND  their blobs by id
--   PREFIX:f:ID       a folder;  PREFIX:fs:ID  its sheets by number;  PREFIX:fn:ID  their numbers in order
--   PREFIX:fk:KIND:TENANT  folders by arrival;  PREFIX:fu  by the end of their time;  PREFIX:folder-seq, folder-bytes
--   PREFIX:k:...      idempotency keys;  PREFIX:lanes, PREFIX:shares  fair shares
-- States: 0 queued, 1 running, 2 done. cancel: 1 by somebody, 2 by the deadline.

local PREFIX = KEYS[1]
local RANK, NUMBER = 24, 16

local function key(...)
    return table.concat({PREFIX, ...}, ':')
end

local function server_s()
    local time = redis.call('TIME')
    return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local NOW = tonumber(ARGV[1]) or server_s()

local function get(id, ...)
    return redis.call('HMGET', key('r', id), ...)
end

local function set(id, ...)
    redis.call('HSET', key('r', id), ...)
end

local function seconds(value)
    return string.format('%.6f', value)
end

local function lane_of(model, priority)
    return model .. '\0' .. priority
end

local function number(map, field)
    return tonumber(redis.call('HGET', key(map), field) or 0)
end

local function put_number(map, field, value)
    redis.call('HSET', key(map), field, string.format('%.0f', value))
end

local function enqueue(id)
    local r = get(id, 'model', 'rank', 'tag', 'seq', 'cost', 'bytes', 'accepted')
    local member = r[2] .. string.format('%016.0f%016.0f', tonumber(r[3]), tonumber(r[4])) .. id
    redis.call('ZADD', key('q', r[1]), 0, member)
    redis.call('ZADD', key('age', r[1]), r[7], id)
    redis.call('HINCRBY', key('d', r[1]), 'tokens', r[5])
    redis.call('HINCRBY', key('d', r[1]), 'bytes', r[6])
    set(id, 'state', 0, 'member', member, 'owner', '')
end

local function dequeue(id)
    local r = get(id, 'model', 'member', 'cost', 'bytes')
    redis.call('ZREM', key('q', r[1]), r[2])
    redis.call('ZREM', key('age', r[1]), id)
    redis.call('HINCRBY', key('d', r[1]), 'tokens', -tonumber(r[3]))
    redis.call('HINCRBY', key('d', r[1]), 'bytes', -tonumber(r[4]))
end

local function hold(id, owner, attempt)
    local model = get(id, 'model')[1]
    redis.call('SADD', key('o', owner), id)
    redis.call('HINCRBY', key('d', model), 'running', 1)
    set(id, 'state', 1, 'owner', owner, 'attempt', attempt)
end

local function release(id)
    local r = get(id, 'model', 'owner')
    redis.call('SREM', key('o', r[2]), id)
    redis.call('HINCRBY', key('d', r[1]), 'running', -1)
end

-- The reader has it all: the pieces go, and the content unless it is kept.
local function forget(id)
    redis.call('DEL', key('p', id))
    redis.call('ZREM', key('unread'), id)
    set(id, 'delivered', 1)
    if get(id, 'keep')[1] == '0' then
        redis.call('HDEL', key('r', id), 'body', 'meta')
    end
end

-- Whatever place it had it has left already.
local function done(id, result)
    local r = get(id, 'keep', 'delivered')
    set(id, 'state', 2, 'result', result, 'ended', seconds(NOW))
    redis.call('ZREM', key('due'), id)
    redis.call('ZADD', key(r[1] == '1' and 'kept' or 'others'), seconds(NOW), id)
    if r[2] == '1' then
        forget(id)
    else
        redis.call('ZADD', key('unread'), seconds(NOW), id)
    end
end

-- A result made by the client, with the times only the server knows.
local function timed(blob, accepted, queued)
    local result = cmsgpack.unpack(blob)
    local waited_ms = math.max(0, (NOW - tonumber(accepted)) * 1000)
    result.total_ms = waited_ms
    if queued then
        result.queued_ms = waited_ms
    end
    return cmsgpack.pack(result)
end

-- The same rule as `rows.beyond`: what goes on where the stored chunks end is appended, all else is left out.
-- A part is {choice, offset, tokens, ends, failed, number}: its chunk is ARGV[first + number].
local function append(id, parts, first)
    for _, part in ipairs(parts) do
        local choice, offset, tokens, ends, failed, number = unpack(part)
        local top = tonumber(get(id, 't' .. choice)[1] or 0)
        if offset == top and (tokens > 0 or ends) then
            redis.call('RPUSH', key('p', id), ARGV[first + number])
            top = top + tokens
            set(id, 't' .. choice, ends and -1 - top or top)
        end
        if failed then
            set(id, 'failed', 1)
        end
    end
end

-- What it took takes the place of what was expected (`order.settled`).
local function settle(id, took)
    local r = get(id, 'model', 'priority', 'tenant', 'cost')
    local share = lane_of(r[1], r[2]) .. '\0' .. r[3]
    put_number('shares', share, math.max(0, number('shares', share) + took - tonumber(r[4])))
end

local function complete(id, answers)
    if get(id, 'failed')[1] then
        return true
    end
    local ended = 0
    for choice = 0, answers - 1 do
        if tonumber(get(id, 't' .. choice)[1] or 0) < 0 then
            ended = ended + 1
        end
    end
    return ended == answers
end

local function drop(id)
    local r = get(id, 'idempotency')
    if r[1] then
        redis.call('DEL', r[1])
        redis.call('ZREM', key('keys'), r[1])
    end
    redis.call('DEL', key('r', id), key('p', id))
    for _, set_name in ipairs({'all', 'poisoned', 'kept', 'others', 'unread'}) do
        redis.call('ZREM', key(set_name), id)
    end
end

local function folder_row(id)
    local f = redis.call('HMGET', key('f', id), 'kind', 'tenant', 'label', 'until', 'version', 'bytes')
    return f[1] and {id, unpack(f)}
end

-- 1, or 0 if it isn't there.
local function drop_folder(id)
    local f = redis.call('HMGET', key('f', id), 'kind', 'tenant', 'bytes')
    if not f[1] then
        return 0
    end
    redis.call('ZREM', key('fk', f[1], f[2]), id)
    redis.call('ZREM', key('fu'), id)
    redis.call('DECRBY', key('folder-bytes'), f[3])
    redis.call('UNLINK', key('f', id), key('fs', id), key('fn', id))
    return 1
end
