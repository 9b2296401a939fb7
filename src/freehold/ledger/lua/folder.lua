-- ARGV: now, id. Its fields, or nothing.
return folder_row(ARGV[2])
