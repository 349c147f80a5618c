//! The state of a consumer that readiness checks report.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// Health of a consumer and its queue.
#[derive(Debug)]
pub struct ConsumerHealth {
    last_response: Mutex<Instant>,
    has_responded: AtomicBool,
    last_receive_failed: AtomicBool,
    paused: AtomicBool,
}

impl ConsumerHealth {
    /// Time since the queue last responded; before its first response, since the consumer was created.
    pub fn time_since_response(&self) -> Duration {
        self.last_response.lock().expect("no panic while held").elapsed()
    }

    /// Whether receiving is paused, because the handler is not ready.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    /// Whether every receive has failed so far: the URL or the permissions are probably wrong.
    pub fn has_only_failed(&self) -> bool {
        self.last_receive_failed.load(Ordering::Relaxed) && !self.has_responded.load(Ordering::Relaxed)
    }

    pub(super) fn record_response(&self) {
        self.has_responded.store(true, Ordering::Relaxed);
        self.last_receive_failed.store(false, Ordering::Relaxed);
        self.restart_response_timer();
    }

    pub(super) fn record_failure(&self) {
        self.last_receive_failed.store(true, Ordering::Relaxed);
    }

    pub(super) fn set_paused(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        // Time without a response is no sign of a failing queue while this side does not receive.
        self.restart_response_timer();
    }

    fn restart_response_timer(&self) {
        *self.last_response.lock().expect("no panic while held") = Instant::now();
    }
}

impl Default for ConsumerHealth {
    fn default() -> Self {
        Self {
            last_response: Mutex::new(Instant::now()),
            has_responded: AtomicBool::default(),
            last_receive_failed: AtomicBool::default(),
            paused: AtomicBool::default(),
        }
    }
}
