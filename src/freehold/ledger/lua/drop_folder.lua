-- ARGV: now, id. Returns 1, or 0 if it isn't there.
return drop_folder(ARGV[2])
