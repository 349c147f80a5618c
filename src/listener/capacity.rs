//! The number of open connections, its limit, and the few connections above the limit.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex, Weak,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// Connections above the limit, for health checks. A newer one replaces the oldest.
const MAX_EXTRA_CONNECTIONS: usize = 16;
/// An aborted connection closes when its task runs next, so that one or two of these would suffice.
const MAX_YIELDS: usize = 100;
/// The limit is no longer reached once less than this share of it is in use. So connections that come and go
/// at the limit do not fill the log.
const RELIEF: (usize, usize) = (9, 10);
/// Minimum time between two warnings that the limit is reached.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Counts open connections.
#[derive(Debug)]
pub(super) struct Capacity {
    limit: usize,
    open: AtomicUsize,
    alarm: Mutex<Alarm>,
}

/// Whether the log reports the limit as reached.
#[derive(Debug, Default)]
struct Alarm {
    is_raised: bool,
    last_raised: Option<Instant>,
}

/// One open connection, until it is dropped.
#[derive(Debug)]
pub(super) struct ConnectionSlot(Arc<Capacity>);

impl Capacity {
    pub(super) fn new(limit: usize) -> Arc<Self> {
        Arc::new(Self { limit, open: AtomicUsize::new(0), alarm: Mutex::default() })
    }

    /// Takes a slot. `None` if the limit is reached.
    pub(super) fn acquire(self: &Arc<Self>) -> Option<ConnectionSlot> {
        if self.open.fetch_add(1, Relaxed) < self.limit {
            return Some(ConnectionSlot(self.clone()));
        }
        self.open.fetch_sub(1, Relaxed);
        self.raise_alarm();
        None
    }

    fn raise_alarm(&self) {
        let mut alarm = self.alarm.lock().expect("no panic while held");
        let is_due = alarm.last_raised.is_none_or(|last| last.elapsed() >= WARNING_INTERVAL);
        if !alarm.is_raised && is_due {
            *alarm = Alarm { is_raised: true, last_raised: Some(Instant::now()) };
            warn!(
                connections = self.limit,
                "connection limit reached: new connections receive 503, except /healthz and /readyz; raise the \
                 limit on file descriptors (ulimit -n) or MAX_CONNECTIONS, or add processes"
            );
        }
    }

    fn release(&self) {
        let open = self.open.fetch_sub(1, Relaxed) - 1;
        // Only the release that crosses the line takes the lock.
        if open + 1 == (self.limit * RELIEF.0 / RELIEF.1).max(1) {
            let mut alarm = self.alarm.lock().expect("no panic while held");
            if std::mem::take(&mut alarm.is_raised) {
                info!(connections = open, limit = self.limit, "connection limit no longer reached");
            }
        }
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// The connections above the limit.
#[derive(Debug, Default)]
pub(super) struct ExtraConnections(VecDeque<Weak<CancellationToken>>);

impl ExtraConnections {
    /// Adds a connection by its abort token, and aborts the oldest where there are too many: a health check
    /// is served at once, and a client that only holds its connection does not keep the next one out.
    pub(super) fn push(&mut self, abort: &Arc<CancellationToken>) {
        self.remove_closed();
        self.0.push_back(Arc::downgrade(abort));
        let excess = self.0.len().saturating_sub(MAX_EXTRA_CONNECTIONS);
        for oldest in self.0.iter().take(excess).filter_map(Weak::upgrade) {
            oldest.cancel();
        }
    }

    /// Waits until aborted connections have closed: each holds a descriptor until its task has run.
    pub(super) async fn wait_for_aborted(&mut self) {
        for _ in 0..MAX_YIELDS {
            self.remove_closed();
            if self.0.len() <= MAX_EXTRA_CONNECTIONS {
                return;
            }
            tokio::task::yield_now().await;
        }
    }

    fn remove_closed(&mut self) {
        self.0.retain(|connection| connection.strong_count() > 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dropped_slot_is_free_again() {
        let capacity = Capacity::new(2);
        let slots = [capacity.acquire(), capacity.acquire()];
        assert!(slots.iter().all(Option::is_some));
        assert!(capacity.acquire().is_none());
        drop(slots);
        assert!(capacity.acquire().is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn the_alarm_is_raised_once_and_ends_when_connections_have_closed() {
        let capacity = Capacity::new(20);
        let is_raised = || capacity.alarm.lock().unwrap().is_raised;
        let mut slots: Vec<_> = (0..20).map(|_| capacity.acquire().unwrap()).collect();
        assert!(!is_raised());
        for _ in 0..3 {
            assert!(capacity.acquire().is_none());
        }
        assert!(is_raised());
        slots.truncate(18);
        assert!(is_raised(), "90 % are in use");
        slots.truncate(17);
        assert!(!is_raised());
        slots.extend((0..3).map(|_| capacity.acquire().unwrap()));
        assert!(capacity.acquire().is_none());
        assert!(!is_raised(), "at most one warning a minute");
        tokio::time::advance(WARNING_INTERVAL).await;
        assert!(capacity.acquire().is_none());
        assert!(is_raised());
    }

    #[test]
    fn the_oldest_extra_connection_makes_room_for_a_newer_one() {
        let mut extra = ExtraConnections::default();
        let tokens: Vec<_> =
            (0..MAX_EXTRA_CONNECTIONS).map(|_| Arc::<CancellationToken>::default()).collect();
        for token in &tokens {
            extra.push(token);
        }
        assert!(!tokens[0].is_cancelled());
        let newer = Arc::default();
        extra.push(&newer);
        assert!(tokens[0].is_cancelled());
        assert!(!tokens[1].is_cancelled() && !newer.is_cancelled());
        drop(tokens);
        let next = Arc::default();
        extra.push(&next);
        assert!(!newer.is_cancelled(), "closed connections leave room");
    }
}
