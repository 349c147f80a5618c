-- Answers with the log's end.
return open()
