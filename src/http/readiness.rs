//! Readiness of the process: whether its dependencies are available, and whether it is shutting down.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, Ordering},
};

use futures_util::{FutureExt, future::BoxFuture};

use super::dto::ReadinessReport;

/// Checks a dependency. Returns a human-readable status, `Err` if the dependency is unavailable.
pub type ReadinessCheck = Box<dyn Fn() -> BoxFuture<'static, Result<String, String>> + Send + Sync>;

/// Readiness of this process: its checks, and whether it is shutting down.
#[derive(Default)]
pub struct Readiness {
    shutting_down: AtomicBool,
    checks: Vec<(&'static str, ReadinessCheck)>,
}

impl Readiness {
    /// Adds a dependency that must be available.
    pub fn add_check(&mut self, name: &'static str, check: ReadinessCheck) {
        self.checks.push((name, check));
    }

    /// Reports this process as not ready from now on, so that it receives no new traffic.
    pub fn begin_shutdown(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    pub(super) async fn run_checks(&self) -> ReadinessReport {
        let checks = self.checks.iter().map(|(name, check)| check().map(|status| (*name, status)));
        let statuses = futures_util::future::join_all(checks).await;
        let shutting_down = self.shutting_down.load(Ordering::Relaxed);
        let mut parts: BTreeMap<_, _> = BTreeMap::new();
        let mut ready = !shutting_down;
        for (name, status) in statuses {
            ready &= status.is_ok();
            parts.insert(name, status.unwrap_or_else(|error| error));
        }
        if shutting_down {
            parts.insert("process", "stopping".into());
        }
        ReadinessReport { ready, parts }
    }
}
