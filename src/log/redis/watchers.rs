//! Who watches, over all processes: each writes its counts now and then, and what is old counts no more.

use std::collections::{HashMap, HashSet};

use async_trait::async_trait;
use jiff::Timestamp;

use super::{RedisLog, link::Connected};
use crate::{
    feed::FeedId,
    log::{FRESH, LogError, Presence},
};

/// Feeds that one request notes.
const BATCH: usize = 256;

#[async_trait]
impl Presence for RedisLog {
    async fn note(&self, here: Vec<(FeedId, usize)>) -> Result<(), LogError> {
        let now = Timestamp::now().as_second();
        for feeds in here.chunks(BATCH) {
            let mut notes = redis::pipe();
            for (feed, count) in feeds {
                let key = self.prefix.watchers(feed);
                notes.hset(&key, &self.process, format!("{count} {now}")).ignore();
                notes.cmd("EXPIRE").arg(&key).arg(FRESH.as_secs()).ignore();
            }
            self.calls
                .ask::<()>(async |mut to: Connected| notes.query_async(&mut to.connection).await)
                .await?;
        }
        let here: HashSet<_> = here.into_iter().map(|(feed, _)| feed).collect();
        let before = std::mem::replace(&mut *self.noted.lock().expect("no panic while held"), here.clone());
        let left: Vec<_> = before.difference(&here).cloned().collect();
        for feeds in left.chunks(BATCH) {
            let mut notes = redis::pipe();
            for feed in feeds {
                notes.hdel(self.prefix.watchers(feed), &self.process).ignore();
            }
            self.calls
                .ask::<()>(async |mut to: Connected| notes.query_async(&mut to.connection).await)
                .await?;
        }
        Ok(())
    }

    async fn elsewhere(&self, feed: &FeedId) -> Result<usize, LogError> {
        let mut ask = redis::cmd("HGETALL");
        ask.arg(self.prefix.watchers(feed));
        let notes: HashMap<String, String> =
            self.calls.ask(async |mut to: Connected| ask.query_async(&mut to.connection).await).await?;
        let oldest = Timestamp::now().as_second() - i64::try_from(FRESH.as_secs()).unwrap_or(i64::MAX);
        let others = notes.iter().filter(|(process, _)| **process != self.process);
        Ok(others.filter_map(|(_, note)| fresh_count(note, oldest)).sum())
    }
}

fn fresh_count(note: &str, oldest: i64) -> Option<usize> {
    let (count, at) = note.split_once(' ')?;
    at.parse::<i64>().ok().filter(|at| *at >= oldest)?;
    count.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_old_or_odd_does_not_count() {
        for (note, count) in [("3 100", Some(3)), ("3 99", None), ("x 100", None), ("3", None)] {
            assert_eq!(fresh_count(note, 100), count, "{note}");
        }
    }
}
