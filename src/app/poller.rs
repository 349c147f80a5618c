//! The poller: the consumer of the queue with the handler that ingests its messages.

use std::{sync::Arc, time::Duration};

use super::maintenance::LogHandles;
use crate::{
    bucket::Bucket,
    config::CommonConfig,
    ingest::{IngestHandler, Inspector},
    queue::{Consumer, ConsumerConfig, Queue},
};

/// How long the poller may finish received messages during the shutdown.
pub(super) const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn build_consumer(
    queue: Arc<dyn Queue>,
    bucket: &Bucket,
    log: &LogHandles,
    common: &CommonConfig,
) -> Consumer {
    let inspector = common.inspector.clone().map(Inspector::new);
    let ingest = Arc::new(IngestHandler::new(bucket.clone(), log.feeds.clone(), inspector));
    let config = ConsumerConfig { max_loops: common.poller_max_loops, drain_timeout: DRAIN_TIMEOUT };
    Consumer::new(queue, ingest, config)
}
