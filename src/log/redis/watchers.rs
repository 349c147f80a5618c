//! Who watches, over all processes: each writes its counts now and then, and what is old counts no more.

use std::{
    collections::{HashMap, HashSet},
    sync::Mutex,
    time::Duration,
};

use async_trait::async_trait;
use jiff::Timestamp;
use redis::RedisError;

use super::{
    RedisLog, all_of,
    connection::Connection,
    script::{Call, Script},
};
use crate::{
    feed::FeedId,
    log::{FRESH, LogError, Presence},
};

/// What was noted is noted anew after this, even if it has not changed.
const NOTE_AGAIN: Duration = Duration::from_secs(FRESH.as_secs() / 2);

/// What this process last noted of each feed: how many watch it, and when.
#[derive(Debug, Default)]
pub(super) struct Noted(Mutex<HashMap<FeedId, (usize, i64)>>);

#[async_trait]
impl Presence for RedisLog {
    async fn note(&self, here: Vec<(FeedId, usize)>) -> Result<(), LogError> {
        let now = Timestamp::now().as_second();
        let due = self.noted.due(here, now).into_iter();
        Ok(all_of(due.map(|(feed, count)| self.note_one(feed, count, now))).await?)
    }

    async fn elsewhere(&self, feed: &FeedId) -> Result<usize, LogError> {
        let call = self.call_about_watchers(&self.scripts.elsewhere, feed);
        Ok(self.calls.ask(async |mut to: Connection| call.invoke(&mut to).await).await?)
    }
}

impl RedisLog {
    async fn note_one(&self, feed: FeedId, count: usize, now: i64) -> Result<(), RedisError> {
        let mut call = self.call_about_watchers(&self.scripts.note, &feed);
        call.arg(count);
        self.calls.ask::<()>(async |mut to: Connection| call.invoke(&mut to).await).await?;
        self.noted.took(feed, count, now);
        Ok(())
    }

    fn call_about_watchers<'a>(&self, script: &'a Script, feed: &FeedId) -> Call<'a> {
        let mut call = script.call(&[self.prefix.watchers(feed)]);
        call.arg(&self.process).arg(FRESH.as_secs());
        call
    }
}

impl Noted {
    /// What of `here` is to be noted now: what has changed, with 0 for the feeds that nobody watches any
    /// more, and what will soon be too old to count.
    fn due(&self, here: Vec<(FeedId, usize)>, now: i64) -> Vec<(FeedId, usize)> {
        let noted = self.0.lock().expect("no panic while held");
        let watched: HashSet<_> = here.iter().map(|(feed, _)| feed).collect();
        let left: Vec<_> = noted.keys().filter(|feed| !watched.contains(feed)).cloned().collect();
        let stands = |feed: &FeedId, count: &usize| {
            noted.get(feed).is_some_and(|(noted, at)| noted == count && now - at < seconds(NOTE_AGAIN))
        };
        let changed = here.into_iter().filter(|(feed, count)| !stands(feed, count));
        changed.chain(left.into_iter().map(|feed| (feed, 0))).collect()
    }

    fn took(&self, feed: FeedId, count: usize, now: i64) {
        let mut noted = self.0.lock().expect("no panic while held");
        if count == 0 {
            noted.remove(&feed);
        } else {
            noted.insert(feed, (count, now));
        }
    }
}

fn seconds(span: Duration) -> i64 {
    i64::try_from(span.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_changed_or_grows_old_is_noted() {
        let feed = |name| FeedId::parse(name).unwrap();
        let noted = Noted::default();
        let due = |here: &[(&'static str, usize)], now| {
            let here = here.iter().map(|(name, count)| (feed(name), *count)).collect();
            let due = noted.due(here, now);
            for (feed, count) in due.clone() {
                noted.took(feed, count, now);
            }
            due.into_iter().map(|(feed, count)| (feed.to_string(), count)).collect::<Vec<_>>()
        };
        let said = |name: &str, count| (name.to_owned(), count);
        assert_eq!(due(&[("a", 1), ("b", 2)], 100), [said("a", 1), said("b", 2)]);
        assert_eq!(due(&[("a", 1), ("b", 3)], 105), [said("b", 3)]);
        assert_eq!(due(&[("a", 1), ("b", 3)], 115), [said("a", 1)]);
        assert_eq!(due(&[("a", 1)], 116), [said("b", 0)]);
        assert_eq!(due(&[("a", 1)], 117), []);
    }
}
