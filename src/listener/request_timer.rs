//! Time limits of a connection that has no request in flight.
//!
//! hyper has one timer for the time until a request head is complete, and starts it when the previous response
//! ends. A short one would close idle connections that a load balancer keeps, and a long one would let a
//! client send a head byte by byte for as long. Here a connection may be idle for long, and the head must be
//! complete soon after its first byte.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU8, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use futures_util::task::AtomicWaker;
use tokio::time::{Instant, Sleep, sleep};

/// Time limits while a connection has no request in flight.
#[derive(Debug, Clone, Copy)]
pub struct RequestTimeouts {
    /// From the first byte of a request until its head is complete. Also from the start of a connection.
    pub head: Duration,
    /// From the end of a response until the first byte of the next request.
    pub idle: Duration,
}

/// Whether a connection has a request in flight: shared by its HTTP side, which finds out, and its stream.
#[derive(Debug, Default)]
pub(super) struct Activity {
    state: AtomicU8,
    /// Requests so far.
    requests: AtomicU32,
    /// Wakes the reader of the stream when a request ends: hyper may have polled it last before that.
    reader: AtomicWaker,
}

const WAITING: u8 = 0;
const IN_FLIGHT: u8 = 1;
const UPGRADED: u8 = 2;

/// A request in flight, until it is dropped.
#[derive(Debug)]
pub(super) struct RequestGuard(Arc<Activity>);

impl Activity {
    /// Records that the head of a request is complete.
    pub(super) fn begin_request(self: &Arc<Self>) -> RequestGuard {
        self.requests.fetch_add(1, Relaxed);
        self.state.store(IN_FLIGHT, Relaxed);
        RequestGuard(self.clone())
    }
}

impl RequestGuard {
    /// Records that another protocol, with timeouts of its own, takes over the connection.
    pub(super) fn upgrade(self) {
        self.0.state.store(UPGRADED, Relaxed);
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        if self.0.state.compare_exchange(IN_FLIGHT, WAITING, Relaxed, Relaxed).is_ok() {
            self.0.reader.wake();
        }
    }
}

/// The timer of a connection's stream.
#[derive(Debug)]
pub(super) struct RequestTimer {
    activity: Arc<Activity>,
    timeouts: RequestTimeouts,
    /// The timeout that applies to the next wait: [`RequestTimeouts::head`] or [`RequestTimeouts::idle`].
    timeout: Duration,
    /// The value of [`Activity::requests`] to which `timeout` belongs.
    requests: u32,
    is_running: bool,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl RequestTimer {
    pub(super) fn new(activity: Arc<Activity>, timeouts: RequestTimeouts) -> Self {
        Self { activity, timeouts, timeout: timeouts.head, requests: 0, is_running: false, sleep: None }
    }

    /// Records that bytes have arrived.
    pub(super) fn on_read(&mut self) {
        if self.is_waiting() && self.timeout != self.timeouts.head {
            self.timeout = self.timeouts.head;
            self.is_running = false;
        }
    }

    /// Ready once the peer has sent nothing, or an incomplete head, for too long.
    pub(super) fn poll_expired(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.is_waiting() {
            self.activity.reader.register(context.waker());
            if !self.is_waiting() {
                return Poll::Pending;
            }
        }
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if !self.is_running {
                    sleep.as_mut().reset(Instant::now() + self.timeout);
                }
                sleep
            }
            none => none.insert(Box::pin(sleep(self.timeout))),
        };
        self.is_running = true;
        sleep.as_mut().poll(context)
    }

    /// Whether no request is in flight. Prepares for the next request if one has begun since the last call.
    fn is_waiting(&mut self) -> bool {
        let requests = self.activity.requests.load(Relaxed);
        if self.requests != requests {
            self.requests = requests;
            self.timeout = self.timeouts.idle;
            self.is_running = false;
        }
        let state = self.activity.state.load(Relaxed);
        if state == UPGRADED {
            self.activity.reader.take();
            self.sleep = None;
        }
        state == WAITING
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    const TIMEOUTS: RequestTimeouts =
        RequestTimeouts { head: Duration::from_secs(10), idle: Duration::from_secs(100) };

    fn timer() -> (Arc<Activity>, RequestTimer) {
        let activity = Arc::<Activity>::default();
        (activity.clone(), RequestTimer::new(activity, TIMEOUTS))
    }

    /// Seconds until the timer expires; `None` if it does not within an hour.
    async fn wait(timer: &mut RequestTimer) -> Option<u64> {
        let started = Instant::now();
        let expired = poll_fn(|context| timer.poll_expired(context));
        tokio::time::timeout(Duration::from_hours(1), expired).await.ok()?;
        Some(started.elapsed().as_secs())
    }

    async fn pass(timer: &mut RequestTimer, seconds: u64) {
        let expired = poll_fn(|context| timer.poll_expired(context));
        tokio::time::timeout(Duration::from_secs(seconds), expired).await.expect_err("not expired");
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_must_be_complete_in_time_however_many_bytes_arrive() {
        let (_, mut timer) = timer();
        for _ in 0..9 {
            pass(&mut timer, 1).await;
            timer.on_read();
        }
        assert_eq!(wait(&mut timer).await, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_may_wait_longer_but_not_once_the_next_head_has_begun() {
        let (activity, mut timer) = timer();
        pass(&mut timer, 5).await;
        timer.on_read();
        drop(activity.begin_request());
        pass(&mut timer, 90).await;
        timer.on_read();
        assert_eq!(wait(&mut timer).await, Some(10));
        drop(activity.begin_request());
        assert_eq!(wait(&mut timer).await, Some(100));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_in_flight_and_an_upgraded_connection_have_no_limit() {
        let (activity, mut timer) = timer();
        let request = activity.begin_request();
        timer.on_read();
        assert_eq!(wait(&mut timer).await, None);
        let ends_later = async {
            tokio::time::sleep(Duration::from_secs(5)).await;
            drop(request);
        };
        let (expired, ()) = tokio::join!(wait(&mut timer), ends_later);
        assert_eq!(expired, Some(105));
        activity.begin_request().upgrade();
        timer.on_read();
        assert_eq!(wait(&mut timer).await, None);
        assert!(timer.sleep.is_none(), "an idle WebSocket keeps no timer");
    }
}
