//! Runs the inspection of untrusted bytes apart from the event loop.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use tokio::{sync::Semaphore, task, time};
use tracing::warn;

use crate::{
    feed::ObjectKey,
    inspect::{DetectedType, Inspection, ReadBudget, read_dimensions},
};

/// Threads that inspect at the same time. An inspection takes microseconds.
const MAX_THREADS: usize = 4;
/// When an inspection is given up. The parsers are bounded by the number of their reads, which takes far less
/// than 50 ms of CPU time. A busy machine may not schedule the thread for longer than that, and must not lose
/// dimensions for it.
const TIMEOUT: Duration = Duration::from_secs(1);

/// A bounded share of the blocking threads of the runtime.
///
/// An inspection that panics or does not end has unknown dimensions, and neither fails nor delays others: it
/// keeps its thread, but each inspection waits at most [`TIMEOUT`] for one.
#[derive(Debug)]
pub(super) struct InspectionPool {
    permits: Arc<Semaphore>,
    timeout: Duration,
}

/// Why an inspection did not end. Exported as the `reason` label of a metric.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum InspectionFailure {
    Panic,
    Timeout,
}

impl InspectionPool {
    pub(super) fn new() -> Self {
        Self { permits: Arc::new(Semaphore::new(MAX_THREADS)), timeout: TIMEOUT }
    }

    /// Inspects the first bytes of the object `key`.
    pub(super) async fn inspect(&self, key: &ObjectKey, first_bytes: Bytes) -> Inspection {
        self.inspect_with(key, first_bytes, |first, detected_type| {
            read_dimensions(first, detected_type, &ReadBudget::default())
        })
        .await
    }

    /// The type is detected first, and is kept if `read_dimensions` fails.
    async fn inspect_with<F>(&self, key: &ObjectKey, first_bytes: Bytes, read_dimensions: F) -> Inspection
    where
        F: FnOnce(&[u8], DetectedType) -> Option<(u32, u32)> + Send + 'static,
    {
        let detected_type = Arc::new(OnceLock::new());
        let job = {
            let detected_type = detected_type.clone();
            move || {
                let detected_type = *detected_type.get_or_init(|| DetectedType::detect(&first_bytes));
                read_dimensions(&first_bytes, detected_type)
            }
        };
        let dimensions = self.run(job).await.unwrap_or_else(|failure| {
            let reason = failure.label();
            metrics::counter!("photoshare_inspection_failures_total", "reason" => reason).increment(1);
            warn!(s3.key = %key, reason, "failed to inspect an upload: its dimensions are unknown");
            None
        });
        Inspection {
            detected_type: detected_type.get().copied().unwrap_or(DetectedType::Unknown),
            dimensions,
        }
    }

    async fn run<T, F>(&self, job: F) -> Result<T, InspectionFailure>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let result = async {
            let permit = self.permits.clone().acquire_owned().await.expect("the semaphore is never closed");
            let job = task::spawn_blocking(move || {
                // Held until the job ends, even if nothing waits for it any more.
                let _permit = permit;
                job()
            });
            job.await.map_err(|_| InspectionFailure::Panic)
        };
        time::timeout(self.timeout, result).await.unwrap_or(Err(InspectionFailure::Timeout))
    }
}

impl InspectionFailure {
    fn label(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Timeout => "timeout",
        }
    }
}

#[cfg(test)]
mod tests;
