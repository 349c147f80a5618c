//! What is known of a consumer from outside.

use std::{
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

/// How a consumer stands to its queue.
#[derive(Debug)]
pub struct Health {
    last_answer: Mutex<Instant>,
    paused: AtomicBool,
}

impl Health {
    /// How long ago the queue last answered; before its first answer, how long ago the consumer was made.
    pub fn silence(&self) -> Duration {
        self.last_answer.lock().expect("no panic while held").elapsed()
    }

    /// Whether nothing is received for now, since what the work needs is away.
    pub fn is_paused(&self) -> bool {
        self.paused.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self) {
        *self.last_answer.lock().expect("no panic while held") = Instant::now();
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        // A silence of our own choosing is none of the queue's.
        self.answered();
    }
}

impl Default for Health {
    fn default() -> Self {
        Self { last_answer: Mutex::new(Instant::now()), paused: AtomicBool::default() }
    }
}
