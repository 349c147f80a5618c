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
    /// It has answered once.
    heard: AtomicBool,
    /// It could not be asked, the last time that it was.
    failing: AtomicBool,
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

    /// Whether it has never answered but refused: what it is asked for, or where, is wrong.
    pub fn is_refused(&self) -> bool {
        self.failing.load(Ordering::Relaxed) && !self.heard.load(Ordering::Relaxed)
    }

    pub(super) fn answered(&self) {
        self.heard.store(true, Ordering::Relaxed);
        self.failing.store(false, Ordering::Relaxed);
        self.hear();
    }

    pub(super) fn failed(&self) {
        self.failing.store(true, Ordering::Relaxed);
    }

    fn hear(&self) {
        *self.last_answer.lock().expect("no panic while held") = Instant::now();
    }

    pub(super) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        // A silence of our own choosing is none of the queue's.
        self.hear();
    }
}

impl Default for Health {
    fn default() -> Self {
        Self {
            last_answer: Mutex::new(Instant::now()),
            heard: AtomicBool::default(),
            failing: AtomicBool::default(),
            paused: AtomicBool::default(),
        }
    }
}
