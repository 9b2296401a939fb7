-- ARGV: now, id, the number to start after, most bytes. {number, content} of each: one at least if there is one.

local id, most = ARGV[2], tonumber(ARGV[4])
local found, size, from = {}, 0, '(' .. ARGV[3]
while true do
    local page = redis.call('ZRANGEBYSCORE', key('fn', id), from, '+inf', 'LIMIT', 0, 64)
    for _, number in ipairs(page) do
        local content = redis.call('HGET', key('fs', id), number)
        size = size + #content
        if #found > 0 and size > most then
            return found
        end
        found[#found + 1] = {number, content}
    end
    if #page < 64 then
        return found
    end
    from = '(' .. page[#page]
end
