//! Waiting with a time limit that only a failing test reaches.

use std::time::Duration;

pub const TIMEOUT: Duration = Duration::from_secs(30);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Waits for `future`. Panics after [`TIMEOUT`]; the message names `what` it waited for.
pub async fn wait_for<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(TIMEOUT, future).await;
    result.unwrap_or_else(|_| panic!("timed out waiting for {what}"))
}

/// Waits until `condition` holds, which is checked every few milliseconds.
pub async fn wait_until(what: &str, condition: impl AsyncFn() -> bool) {
    wait_for(what, async {
        while !condition().await {
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    })
    .await;
}
