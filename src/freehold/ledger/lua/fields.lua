-- Some fields of some requests. ARGV: now, field names, '', ids. Returns the values of each, false where there is none.

local names, rows, ids = {}, {}, false
for i = 2, #ARGV do
    if ARGV[i] == '' then
        ids = true
    elseif ids then
        rows[#rows + 1] = get(ARGV[i], unpack(names))
    else
        names[#names + 1] = ARGV[i]
    end
end
return rows
