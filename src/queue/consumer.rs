//! Takes messages from a queue, has them handled, and deletes those that are done.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{
    sync::mpsc,
    task::{JoinError, JoinSet},
    time::Instant,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::{BATCH, Disposition, Health, Message, Queue, QueueError, backoff::Backoff};

/// A queue that says "nothing" sooner than this does not wait for messages, and would be asked without
/// end.
const TOO_SOON: Duration = Duration::from_secs(1);
/// Messages that take longer than this are no reason for others to wait.
const SLOW: Duration = Duration::from_secs(1);

/// Does the work that a message asks for.
#[async_trait]
pub trait Handler: Send + Sync + 'static {
    /// Does the work and says what becomes of the message. May be called with the same message twice.
    async fn handle(&self, message: &Message) -> Disposition;

    /// Whether what the work needs is there. Asked after a [`Disposition::Retry`], which may be one
    /// message's own trouble: nothing is received until it says so, since each receive brings a message
    /// closer to the dead-letter queue.
    async fn ready(&self) -> bool;
}

/// How much a consumer does at a time.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerConfig {
    /// The most receiving loops.
    pub max_loops: usize,
    /// How long messages in hand may still take once the consumer is told to stop.
    pub drain: Duration,
}

/// Receives, hands over, deletes.
#[derive(Clone)]
pub struct Consumer {
    pub(super) queue: Arc<dyn Queue>,
    pub(super) handler: Arc<dyn Handler>,
    pub(super) config: ConsumerConfig,
    health: Arc<Health>,
    /// Loops that wait for messages now.
    receiving: Arc<AtomicUsize>,
}

/// What a loop learned from one receive and what followed.
enum Turn {
    Full,
    Some,
    Nothing,
    /// Nothing, and without having waited for it.
    TooSoon,
    /// Something that the work needs is away.
    Away,
}

impl Consumer {
    /// A consumer of `queue`.
    #[must_use]
    pub fn new(queue: Arc<dyn Queue>, handler: Arc<dyn Handler>, config: ConsumerConfig) -> Self {
        Self { queue, handler, config, health: Arc::default(), receiving: Arc::default() }
    }

    /// What readiness asks.
    #[must_use]
    pub fn health(&self) -> Arc<Health> {
        self.health.clone()
    }

    /// Runs until `stop`. Then receiving ends, and what is in hand is finished and deleted, or released
    /// when the drain time is over.
    ///
    /// One loop is always there. While receives come back full, or all that there are have slow messages
    /// in hand, another is added, up to the limit; a loop beyond the first ends when a receive comes back
    /// with nothing, or with trouble.
    pub async fn run(self, stop: CancellationToken) {
        let (grow, mut growing) = mpsc::channel::<()>(1);
        let mut loops = JoinSet::new();
        loops.spawn(self.clone().first_loop(grow.clone(), stop.clone()));
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ended) = loops.join_next() => pass_on_panic(ended),
                Some(()) = growing.recv() => {
                    if loops.len() < self.config.max_loops && !self.health.is_paused() {
                        debug!(loops = loops.len() + 1, "receiving more");
                        loops.spawn(self.clone().further_loop(grow.clone(), stop.clone()));
                    }
                }
            }
        }
        while let Some(ended) = loops.join_next().await {
            pass_on_panic(ended);
        }
    }

    /// Receives as long as the consumer runs, whatever happens.
    async fn first_loop(self, grow: mpsc::Sender<()>, stop: CancellationToken) {
        let mut backoff = Backoff::default();
        while !stop.is_cancelled() {
            if self.health.is_paused() {
                self.wait_until_ready(&mut backoff, &stop).await;
                continue;
            }
            match self.turn(&grow, &stop).await {
                Ok(Turn::Full | Turn::Some | Turn::Nothing) => backoff.reset(),
                Ok(Turn::TooSoon) => _ = pause(&mut backoff, &stop).await,
                Ok(Turn::Away) => {}
                Err(error) => {
                    self.health.failed();
                    metrics::counter!("photoshare_queue_errors_total").increment(1);
                    warn!(error = &error as &dyn std::error::Error, "queue");
                    _ = pause(&mut backoff, &stop).await;
                }
            }
        }
    }

    /// Receives as long as there is much to receive. In trouble one loop is enough to find its end.
    async fn further_loop(self, grow: mpsc::Sender<()>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.turn(&grow, &stop).await {
                Ok(Turn::Full | Turn::Some) => {}
                Ok(Turn::Nothing | Turn::TooSoon | Turn::Away) => return,
                Err(error) => {
                    metrics::counter!("photoshare_queue_errors_total").increment(1);
                    debug!(error = &error as &dyn std::error::Error, "queue");
                    return;
                }
            }
        }
    }

    /// One receive and all that follows from it.
    async fn turn(&self, grow: &mpsc::Sender<()>, stop: &CancellationToken) -> Result<Turn, QueueError> {
        let asked = Instant::now();
        self.receiving.fetch_add(1, Ordering::Relaxed);
        let messages = self.receive(stop).await;
        self.receiving.fetch_sub(1, Ordering::Relaxed);
        let messages = messages?;
        self.health.answered();
        metrics::counter!("photoshare_queue_messages_received_total").increment(messages.len() as u64);
        let turn = match messages.len() {
            0 if asked.elapsed() < TOO_SOON => return Ok(Turn::TooSoon),
            0 => return Ok(Turn::Nothing),
            BATCH.. => {
                // A full channel: another loop has asked for help already.
                let _ = grow.try_send(());
                Turn::Full
            }
            _ => Turn::Some,
        };
        if self.work_off(messages, grow, stop).await
            && stop.run_until_cancelled(self.handler.ready()).await == Some(false)
        {
            self.health.pause(true);
            return Ok(Turn::Away);
        }
        Ok(turn)
    }

    /// Deals with what one receive brought, and sees to it that somebody receives meanwhile. Says whether
    /// something that the work needs was away.
    async fn work_off(
        &self,
        messages: Vec<Message>,
        grow: &mpsc::Sender<()>,
        stop: &CancellationToken,
    ) -> bool {
        let mut handling = pin!(self.handle_all(messages, stop));
        loop {
            tokio::select! {
                away = &mut handling => return away,
                () = tokio::time::sleep(SLOW) => {
                    if self.receiving.load(Ordering::Relaxed) == 0 {
                        let _ = grow.try_send(());
                    }
                }
            }
        }
    }

    /// Once `stop` is there, what the receive still brings is released: a receive that is simply
    /// dropped may leave messages that are on their way to nobody invisible.
    async fn receive(&self, stop: &CancellationToken) -> Result<Vec<Message>, QueueError> {
        let mut receive = pin!(self.queue.receive());
        tokio::select! {
            biased;
            received = &mut receive => return received,
            () = stop.cancelled() => {}
        }
        if let Ok(Ok(late)) = tokio::time::timeout(self.queue.receive_grace(), receive).await {
            self.release_all(&late).await;
        }
        Ok(Vec::new())
    }

    async fn wait_until_ready(&self, backoff: &mut Backoff, stop: &CancellationToken) {
        warn!("what the work needs is away: receiving nothing until it is back");
        while pause(backoff, stop).await.is_some() {
            if stop.run_until_cancelled(self.handler.ready()).await == Some(true) {
                info!("receiving again");
                self.health.pause(false);
                return;
            }
        }
    }
}

/// Waits; `None` when `stop` came first.
async fn pause(backoff: &mut Backoff, stop: &CancellationToken) -> Option<()> {
    stop.run_until_cancelled(tokio::time::sleep(backoff.next())).await
}

fn pass_on_panic(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        std::panic::resume_unwind(error.into_panic());
    }
}
