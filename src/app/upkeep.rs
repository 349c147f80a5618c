//! What is to be done now and then, and the log that it is done for.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    auth::Gate,
    bucket::Bucket,
    config::Common,
    hub::Hub,
    limit::Limiter,
    log::{FRESH, FeedLog, LogError, MemoryLog, Presence, RedisLog, Retention},
};

/// Between the rounds of what is to be done now and then.
const ROUND: Duration = Duration::from_secs(30);

/// The log in its several roles.
pub(super) struct Log {
    pub(super) feeds: Arc<dyn FeedLog>,
    pub(super) presence: Arc<dyn Presence>,
    /// In memory idle feeds don't expire by themselves.
    memory: Option<Arc<MemoryLog>>,
}

impl Log {
    /// The log that the configuration names.
    pub(super) fn open(common: &Common) -> Result<Self, LogError> {
        Ok(if let Some(settings) = &common.redis {
            let log = Arc::new(RedisLog::new(settings.clone(), common.retention)?);
            Self { feeds: log.clone(), presence: log, memory: None }
        } else {
            let log = Arc::new(MemoryLog::new(common.retention));
            Self { feeds: log.clone(), presence: log.clone(), memory: Some(log) }
        })
    }

    fn forget_idle(&self) {
        if let Some(memory) = &self.memory {
            memory.forget_idle(Timestamp::now());
        }
    }
}

/// Keeps everything in order that nobody asks for.
pub(super) async fn keep_up(bucket: Bucket, log: Log, metrics: PrometheusHandle, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(ROUND)).await.is_some() {
        log.forget_idle();
        metrics.run_upkeep();
        if let Err(error) = bucket.refresh().await {
            warn!(error = &error as &dyn std::error::Error, "credentials");
        }
    }
}

/// Fetches signing keys before anybody waits for them, the first time at once.
pub(super) async fn keep_keys(gate: Arc<Gate>, stop: CancellationToken) {
    let rounds = async {
        loop {
            gate.keep_keys_fresh().await;
            tokio::time::sleep(ROUND).await;
        }
    };
    stop.run_until_cancelled(rounds).await;
}

/// Forgets callers who have all their allowance again.
pub(super) async fn keep_limits(limiter: Arc<Limiter>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(ROUND)).await.is_some() {
        limiter.forget_idle();
    }
}

/// Notes how many watch here, for those who ask elsewhere.
pub(super) async fn count_watchers(hub: Arc<Hub>, presence: Arc<dyn Presence>, stop: CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(FRESH / 6)).await.is_some() {
        note(&*presence, hub.watched()).await;
    }
    note(&*presence, Vec::new()).await;
}

/// Keeps the logs of watched feeds, however quiet they are: those who watch hold positions in them.
pub(super) async fn keep_watched(
    hub: Arc<Hub>,
    log: Arc<dyn FeedLog>,
    retention: Retention,
    stop: CancellationToken,
) {
    let rounds = async {
        loop {
            tokio::time::sleep(retention.idle_unused() / 4).await;
            let watched = hub.watched().into_iter().map(|(feed, _)| feed).collect();
            if let Err(error) = log.renew(watched).await {
                warn!(error = &error as &dyn std::error::Error, "the logs of watched feeds were not renewed");
            }
        }
    };
    stop.run_until_cancelled(rounds).await;
}

async fn note(presence: &dyn Presence, here: Vec<(crate::feed::FeedId, usize)>) {
    if let Err(error) = presence.note(here).await {
        debug!(error = &error as &dyn std::error::Error, "watchers were not noted");
    }
}
