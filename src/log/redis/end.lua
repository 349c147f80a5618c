-- Answers with the log's end.
return open(ARGV[1], ARGV[2], ARGV[3])
