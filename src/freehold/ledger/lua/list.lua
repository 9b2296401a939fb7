-- The newest requests. ARGV: now, state or '' or 'poisoned', limit, id to start after or ''. Returns the fields of each
-- as `fetch` reads them, with the head alone.

local state, limit = ARGV[2], tonumber(ARGV[3])
local from = '+inf'
if ARGV[4] ~= '' and get(ARGV[4], 'seq')[1] then
    from = '(' .. get(ARGV[4], 'seq')[1]
end
local PAGE = 200
local found, start = {}, 0
while #found < limit do
    local name = key(state == 'poisoned' and 'poisoned' or 'all')
    local page = redis.call('ZREVRANGEBYSCORE', name, from, '-inf', 'LIMIT', start, PAGE)
    for _, id in ipairs(page) do
        local r = get(id, 'head', 'state', 'attempt', 'owner', 'result', 'accepted', 'cancel', 'deaths')
        if #found < limit and (state == '' or state == 'poisoned' or state == r[2]) then
            r[5] = r[5] or ''
            found[#found + 1] = r
        end
    end
    if #page < PAGE then
        break
    end
    start = start + PAGE
end
return found
