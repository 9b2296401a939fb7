-- Ask for the end of a request. ARGV: now, id, the result of a queued one. Returns the state before, or nothing.

local id = ARGV[2]
local r = get(id, 'state', 'accepted')
if r[1] == '1' then
    set(id, 'cancel', 1)
elseif r[1] == '0' then
    dequeue(id)
    settle(id, 0)
    set(id, 'cancel', 1, 'delivered', 1) -- whoever asks for the end doesn't read on
    done(id, timed(ARGV[3], r[2], true))
end
return r[1]
