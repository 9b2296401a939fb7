-- Readers have had the last byte. ARGV: now, ids.

for i = 2, #ARGV do
    local r = get(ARGV[i], 'state', 'delivered')
    if r[2] == '0' and r[1] == '2' then
        forget(ARGV[i])
    elseif r[2] == '0' and r[1] == '1' then
        set(ARGV[i], 'delivered', 1)
    end
end
