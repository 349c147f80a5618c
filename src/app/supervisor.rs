//! Long-lived tasks by name: a task that ends without being stopped ends the process.

use std::collections::HashMap;

use tokio::{
    signal::unix::{SignalKind, signal},
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// The long-lived tasks of the process.
#[derive(Default)]
pub(super) struct Supervisor {
    tasks: JoinSet<()>,
    names: HashMap<Id, &'static str>,
}

impl Supervisor {
    pub(super) fn spawn(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(task).id();
        self.names.insert(id, name);
    }

    /// Runs until `stop` is cancelled.
    ///
    /// # Errors
    /// When a task ends before, by returning or by a panic.
    pub(super) async fn run_until(&mut self, stop: &CancellationToken) -> anyhow::Result<()> {
        tokio::select! {
            () = stop.cancelled() => Ok(()),
            name = self.join_next() => anyhow::bail!("the task {name} ended unexpectedly"),
        }
    }

    /// Waits until the task `name` has ended. Returns at once if it does not run.
    pub(super) async fn join(&mut self, name: &str) {
        while self.names.values().any(|running| *running == name) {
            self.join_next().await;
        }
    }

    pub(super) async fn join_all(&mut self) {
        while !self.tasks.is_empty() {
            self.join_next().await;
        }
    }

    /// Waits until any task has ended and returns its name.
    async fn join_next(&mut self) -> &'static str {
        let Some(result) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let id = result.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        self.names.remove(&id).unwrap_or("unknown")
    }
}

/// Returns a token that SIGTERM and SIGINT cancel.
pub(super) fn stop_on_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let cancelled_by_signal = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        cancelled_by_signal.cancel();
    });
    Ok(stop)
}
