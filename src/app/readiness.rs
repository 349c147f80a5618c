//! The readiness checks behind `/readyz`: the log and the queue.

use std::{sync::Arc, time::Duration};

use futures_util::FutureExt;

use crate::{
    http::Readiness,
    log::FeedLog,
    queue::{Consumer, ConsumerHealth},
};

/// A poller is not ready when the queue has not responded for this long: more than two long polls.
const MAX_QUEUE_SILENCE: Duration = Duration::from_secs(90);

/// Builds the checks of a process with this log, and this consumer if it receives from the queue.
pub(super) fn build_readiness(log: &Arc<dyn FeedLog>, consumer: Option<&Consumer>) -> Readiness {
    let mut readiness = Readiness::default();
    let log = log.clone();
    readiness.add_check(
        "log",
        Box::new(move || {
            let log = log.clone();
            async move { log.ping().await.map(|()| "ok".into()).map_err(|error| error.to_string()) }.boxed()
        }),
    );
    if let Some(health) = consumer.map(Consumer::health) {
        readiness.add_check("queue", Box::new(move || std::future::ready(check_queue(&health)).boxed()));
    }
    readiness
}

pub(super) fn check_queue(health: &ConsumerHealth) -> Result<String, String> {
    let silence = health.time_since_response();
    if health.is_paused() {
        Err("receiving is paused: the log or the bucket is unavailable".into())
    } else if health.has_only_failed() {
        Err("every receive fails: check SQS_QUEUE_URL, AWS_REGION and the permissions of the access key"
            .into())
    } else if silence >= MAX_QUEUE_SILENCE {
        Err(format!("no response for {} s", silence.as_secs()))
    } else {
        Ok(format!("ok, last response {} s ago", silence.as_secs()))
    }
}
