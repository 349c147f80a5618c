//! Long-lived tasks: each has a name, and none may end unnoticed.

use std::collections::HashMap;

use tokio::{
    signal::unix::{SignalKind, signal},
    task::{Id, JoinError, JoinSet},
};
use tokio_util::sync::CancellationToken;

/// The tasks that the process lives by.
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

    /// Waits until any of them ends, by itself or by a panic, and says which.
    pub(super) async fn one_ended(&mut self) -> &'static str {
        let Some(ended) = self.tasks.join_next_with_id().await else { return std::future::pending().await };
        let id = ended.as_ref().map_or_else(JoinError::id, |(id, ())| *id);
        self.names.remove(&id).unwrap_or("a task")
    }

    /// Waits until `name` has ended, if it ran.
    pub(super) async fn ended(&mut self, name: &str) {
        while self.names.values().any(|running| *running == name) {
            self.one_ended().await;
        }
    }

    pub(super) async fn all_ended(&mut self) {
        while !self.tasks.is_empty() {
            self.one_ended().await;
        }
    }
}

/// A token that is cancelled by SIGTERM and SIGINT.
pub(super) fn stop_signal() -> std::io::Result<CancellationToken> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = CancellationToken::new();
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        stopping.cancel();
    });
    Ok(stop)
}
