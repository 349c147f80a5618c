//! Numbers of subscribers by process: each process reports its own regularly, and a report expires after
//! [`PRESENCE_TTL`].

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use jiff::Timestamp;
use redis::RedisError;

use super::{
    client::{RedisClient, run_all},
    script::{Script, ScriptCall},
};
use crate::{feed::FeedId, log::PRESENCE_TTL};

/// A count that has not changed is reported again after this time.
const REPORT_INTERVAL: Duration = Duration::from_secs(PRESENCE_TTL.as_secs() / 2);

/// Reports the subscribers of this process and counts those of the other processes.
pub(super) struct PresenceReporter {
    set_presence: Script,
    count_remote: Script,
    /// Identifies this process in the reports.
    process_id: String,
    reported: ReportedCounts,
}

impl PresenceReporter {
    pub(super) fn new(process_id: String) -> Self {
        Self {
            set_presence: Script::new(concat!(
                include_str!("presence_prelude.lua"),
                include_str!("set_presence.lua")
            )),
            count_remote: Script::new(concat!(
                include_str!("presence_prelude.lua"),
                include_str!("count_remote.lua")
            )),
            process_id,
            reported: ReportedCounts::default(),
        }
    }

    /// Reports the `counts` that have changed or are about to expire.
    pub(super) async fn report_counts(
        &self,
        client: &RedisClient,
        counts: Vec<(FeedId, usize)>,
    ) -> Result<(), RedisError> {
        let now = Timestamp::now().as_second();
        let due = self.reported.select_due(counts, now).into_iter();
        run_all(due.map(|(feed, count)| self.report_feed(client, feed, count, now))).await
    }

    async fn report_feed(
        &self,
        client: &RedisClient,
        feed: FeedId,
        count: usize,
        now: i64,
    ) -> Result<(), RedisError> {
        let mut call = self.call(client, &self.set_presence, &feed);
        call.arg(count);
        client.call_script::<()>(&call).await?;
        self.reported.record(feed, count, now);
        Ok(())
    }

    /// Counts the subscribers of `feed` in all other processes.
    pub(super) async fn count_remote(
        &self,
        client: &RedisClient,
        feed: &FeedId,
    ) -> Result<usize, RedisError> {
        client.call_script(&self.call(client, &self.count_remote, feed)).await
    }

    fn call<'a>(&self, client: &RedisClient, script: &'a Script, feed: &FeedId) -> ScriptCall<'a> {
        let mut call = script.with_keys(&[client.key_prefix.watchers_key(feed)]);
        call.arg(&self.process_id).arg(PRESENCE_TTL.as_secs());
        call
    }
}

/// The last report of this process for each feed: the count and the Unix time in seconds.
#[derive(Debug, Default)]
struct ReportedCounts(Mutex<HashMap<FeedId, (usize, i64)>>);

impl ReportedCounts {
    /// Selects the counts to report now: those that have changed or were last reported [`REPORT_INTERVAL`]
    /// ago, and 0 for feeds that no longer have subscribers.
    fn select_due(&self, counts: Vec<(FeedId, usize)>, now: i64) -> Vec<(FeedId, usize)> {
        let reported = self.0.lock().expect("no panic while the lock is held");
        let watched: HashSet<_> = counts.iter().map(|(feed, _)| feed).collect();
        let unwatched: Vec<_> = reported.keys().filter(|feed| !watched.contains(feed)).cloned().collect();
        let is_current = |feed: &FeedId, count: &usize| {
            reported.get(feed).is_some_and(|(last, at)| last == count && now - at < seconds(REPORT_INTERVAL))
        };
        let changed = counts.into_iter().filter(|(feed, count)| !is_current(feed, count));
        changed.chain(unwatched.into_iter().map(|feed| (feed, 0))).collect()
    }

    fn record(&self, feed: FeedId, count: usize, now: i64) {
        let mut reported = self.0.lock().expect("no panic while the lock is held");
        if count == 0 {
            reported.remove(&feed);
        } else {
            reported.insert(feed, (count, now));
        }
    }
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::feed;

    #[test]
    fn only_counts_that_changed_or_are_about_to_expire_are_reported() {
        let reported = ReportedCounts::default();
        let due = |counts: &[(&'static str, usize)], now| {
            let counts = counts.iter().map(|(name, count)| (feed(name), *count)).collect();
            let due = reported.select_due(counts, now);
            for (feed, count) in due.clone() {
                reported.record(feed, count, now);
            }
            due.into_iter().map(|(feed, count)| (feed.to_string(), count)).collect::<Vec<_>>()
        };
        let expected = |name: &str, count| (name.to_owned(), count);
        assert_eq!(due(&[("a", 1), ("b", 2)], 100), [expected("a", 1), expected("b", 2)]);
        assert_eq!(due(&[("a", 1), ("b", 3)], 105), [expected("b", 3)]);
        assert_eq!(due(&[("a", 1), ("b", 3)], 115), [expected("a", 1)]);
        assert_eq!(due(&[("a", 1)], 116), [expected("b", 0)]);
        assert_eq!(due(&[("a", 1)], 117), []);
    }
}
