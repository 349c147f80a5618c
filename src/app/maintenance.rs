//! Periodic work: refreshing credentials and signing keys, expiring idle state, renewing watched feeds.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    auth::Authenticator,
    bucket::Bucket,
    config::CommonConfig,
    feed::FeedId,
    hub::Hub,
    limit::RateLimits,
    log::{FeedLog, LogError, MemoryLog, PRESENCE_TTL, Presence, RedisLog, Retention},
};

const INTERVAL: Duration = Duration::from_secs(30);

/// The configured log, once for each trait that it implements.
pub(super) struct LogHandles {
    pub(super) feeds: Arc<dyn FeedLog>,
    pub(super) presence: Arc<dyn Presence>,
    /// Set for the in-memory log only: its idle feeds don't expire without [`run`], those in Redis do.
    memory: Option<Arc<MemoryLog>>,
}

impl LogHandles {
    /// Opens the log in Redis if `REDIS_URL` is set, otherwise in memory.
    pub(super) fn open(common: &CommonConfig) -> Result<Self, LogError> {
        Ok(if let Some(settings) = &common.redis {
            let log = Arc::new(RedisLog::new(settings.clone(), common.retention)?);
            Self { feeds: log.clone(), presence: log, memory: None }
        } else {
            let log = Arc::new(MemoryLog::new(common.retention));
            Self { feeds: log.clone(), presence: log.clone(), memory: Some(log) }
        })
    }

    fn expire_idle_feeds(&self) {
        if let Some(memory) = &self.memory {
            memory.remove_idle_feeds(Timestamp::now());
        }
    }
}

/// Expires idle feeds, drains the metrics' histograms and refreshes the AWS credentials, every 30 seconds.
pub(super) async fn run(bucket: Bucket, log: LogHandles, metrics: PrometheusHandle, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        log.expire_idle_feeds();
        metrics.run_upkeep();
        if let Err(error) = bucket.refresh_credentials().await {
            warn!(error = &error as &dyn std::error::Error, "failed to refresh the AWS credentials");
        }
    }
}

/// Fetches token signing keys at start and periodically, so that no request has to wait for them.
pub(super) async fn refresh_signing_keys(authenticator: Arc<Authenticator>, stop: CancellationToken) {
    let rounds = async {
        loop {
            authenticator.refresh_keys().await;
            tokio::time::sleep(INTERVAL).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
}

/// Drops the state of rate limits whose allowance is full again.
pub(super) async fn expire_idle_rate_limits(rate_limits: Arc<RateLimits>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(INTERVAL)).await.is_some() {
        rate_limits.forget_idle_keys();
    }
}

/// Publishes how many clients watch each feed in this process, for the count that other processes return.
pub(super) async fn publish_presence(hub: Arc<Hub>, presence: Arc<dyn Presence>, stop: CancellationToken) {
    // Six times within the TTL: five updates may fail before the count of this process expires.
    while stop.run_until_cancelled(tokio::time::sleep(PRESENCE_TTL / 6)).await.is_some() {
        set_presence(&*presence, hub.subscriber_counts()).await;
    }
    set_presence(&*presence, Vec::new()).await;
}

async fn set_presence(presence: &dyn Presence, watchers: Vec<(FeedId, usize)>) {
    if let Err(error) = presence.set_presence(watchers).await {
        debug!(error = &error as &dyn std::error::Error, "failed to publish the watcher counts");
    }
}

/// Renews the TTL of watched feeds. Without it the log would expire a feed that has no events while
/// subscribers hold positions in it.
pub(super) async fn renew_watched_feeds(
    hub: Arc<Hub>,
    log: Arc<dyn FeedLog>,
    retention: Retention,
    stop: CancellationToken,
) {
    let rounds = async {
        loop {
            tokio::time::sleep(retention.unused_ttl() / 4).await;
            let watched = hub.subscriber_counts().into_iter().map(|(feed, _)| feed).collect();
            if let Err(error) = log.renew_ttl(watched).await {
                warn!(error = &error as &dyn std::error::Error, "failed to renew the TTL of watched feeds");
            }
        }
    };
    stop.run_until_cancelled(rounds).await;
}
