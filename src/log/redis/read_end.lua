-- read_end: returns the end of a feed and creates the feed where it does not exist.
--
-- KEYS, ARGV: as in feed_prelude.lua.
--
-- | returns                       | meaning                                             |
-- | ----------------------------- | --------------------------------------------------- |
-- | { epoch, offset, tag, since } | the end; the offset is 0 for a feed without entries |
--
-- Atomicity: two processes that open a new feed at the same time get the same epoch.
return open_feed()
