-- Append to running answers. ARGV: now, {id, attempt, parts} of each (msgpack), chunks. Returns 1 or 0 (fenced) of each.

local known = {}
for i, progress in ipairs(cmsgpack.unpack(ARGV[2])) do
    local id, attempt, parts = unpack(progress)
    local r = get(id, 'state', 'attempt')
    known[i] = 0
    if r[1] == '1' and tonumber(r[2]) == attempt then
        append(id, parts, 3)
        known[i] = 1
    end
end
return known
