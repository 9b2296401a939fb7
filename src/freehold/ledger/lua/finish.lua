-- Record final results. ARGV: now, {id, attempt, number, took_tokens, parts} of each (msgpack), results and chunks: a
-- result is ARGV[3 + number]. Returns 1 or 0 of each.

local known = {}
for i, ended in ipairs(cmsgpack.unpack(ARGV[2])) do
    local id, attempt, result_number, took, parts = unpack(ended)
    local r = get(id, 'state', 'attempt')
    known[i] = 0
    if r[1] == '1' and tonumber(r[2]) == attempt then
        append(id, parts, 3)
        release(id)
        done(id, ARGV[3 + result_number])
        settle(id, took)
        known[i] = 1
    end
end
return known
