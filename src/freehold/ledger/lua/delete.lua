-- Forget a finished request. ARGV: now, id. Returns 1, or 0 if it isn't there or hasn't ended.

if get(ARGV[2], 'state')[1] ~= '2' then
    return 0
end
drop(ARGV[2])
return 1
