//! A subscriber of a log's tail.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use photoshare_server::{
    feed::FeedId,
    log::{Entry, FeedLog, LogError, Shards, TailItem},
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};

use super::{event::upload, wait::wait_for};

/// Receives what is appended to the watched shards of a log.
pub struct TailSubscriber {
    items: mpsc::Receiver<TailItem>,
    watched: watch::Sender<Shards>,
    task: JoinHandle<Result<(), LogError>>,
}

impl TailSubscriber {
    /// Follows `log`, at first in `shards`.
    pub fn start(log: Arc<dyn FeedLog>, shards: Shards) -> Self {
        let watched = watch::Sender::new(shards);
        let (tx, items) = mpsc::channel(4096);
        let receiver = watched.subscribe();
        let task = tokio::spawn(async move { log.tail(receiver, tx).await });
        Self { items, watched, task }
    }

    /// Follows `log` in the shard of `feed`, and returns once the tail has begun.
    pub async fn start_with_feed(log: Arc<dyn FeedLog>, feed: &FeedId) -> Self {
        let mut subscriber = Self::start(log, Shards::of(feed));
        subscriber.wait_for_resync(feed).await;
        subscriber
    }

    pub fn watch(&self, shards: Shards) {
        self.watched.send_replace(shards);
    }

    pub async fn next_item(&mut self) -> TailItem {
        wait_for("an item of the tail", self.items.recv()).await.expect("the tail runs")
    }

    /// Skips items until the next entry.
    pub async fn next_entry(&mut self) -> Arc<Entry> {
        loop {
            if let TailItem::Appended(entry) = self.next_item().await {
                return entry;
            }
        }
    }

    /// Skips items until a resync of the shard of `feed`.
    pub async fn wait_for_resync(&mut self, feed: &FeedId) {
        while !matches!(self.next_item().await, TailItem::Resync(shards) if shards.contains(feed)) {}
    }

    /// Skips items until the entry of the photo with this name.
    pub async fn wait_for_entry(&mut self, name: &str) {
        while self.next_entry().await.event.key.name() != name {}
    }

    /// Appends one photo after the other to `feed` until the tail delivers one of them: then it follows the
    /// feed. Appends may fail, as while a cluster changes.
    pub async fn append_until_received(&mut self, log: &dyn FeedLog, feed: &FeedId) {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let mut names = HashSet::new();
        let appending = async {
            loop {
                let name = format!("probe{}", NUMBER.fetch_add(1, Ordering::Relaxed));
                let _ = upload(feed, &name).append_to(log).await;
                names.insert(name);
                let received = async { while !names.contains(self.next_entry().await.event.key.name()) {} };
                if tokio::time::timeout(Duration::from_millis(50), received).await.is_ok() {
                    return;
                }
            }
        };
        wait_for("the tail to deliver an append", appending).await;
    }

    /// Drops the receiver. The task that is returned ends when the tail notices.
    pub fn close(self) -> JoinHandle<Result<(), LogError>> {
        self.task
    }
}
