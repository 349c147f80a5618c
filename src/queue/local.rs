//! A queue inside the process, for `photoshare dev`.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Mutex, MutexGuard,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Notify, time::Instant};

use super::{BATCH, Message, Queue, QueueError, ReceiptHandle};

/// How long a receive waits for messages.
const LONG_POLL: Duration = Duration::from_secs(20);
/// How long a received message stays invisible.
const VISIBILITY: Duration = Duration::from_secs(30);

/// A [`Queue`] with SQS's manners: what is received comes again unless it is deleted in time.
#[derive(Debug, Default)]
pub struct LocalQueue {
    state: Mutex<State>,
    arrived: Notify,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Message>,
    in_flight: HashMap<String, (Instant, Message)>,
}

impl LocalQueue {
    /// Puts a message in.
    pub fn send(&self, body: String) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed).to_string();
        let receipt = ReceiptHandle(id.clone());
        self.state().waiting.push_back(Message { id, receipt, body, receive_count: 0 });
        self.arrived.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while the queue is held")
    }

    fn take(&self) -> Vec<Message> {
        let now = Instant::now();
        let mut state = self.state();
        let State { waiting, in_flight } = &mut *state;
        let returned = in_flight.extract_if(|_, (until, _)| *until <= now);
        waiting.extend(returned.map(|(_, (_, message))| message));
        let count = waiting.len().min(BATCH);
        let mut taken: Vec<_> = waiting.drain(..count).collect();
        for message in &mut taken {
            message.receive_count += 1;
            in_flight.insert(message.id.clone(), (now + VISIBILITY, message.clone()));
        }
        taken
    }

    fn next_return(&self) -> Option<Instant> {
        self.state().in_flight.values().map(|(until, _)| *until).min()
    }
}

#[async_trait]
impl Queue for LocalQueue {
    async fn receive(&self) -> Result<Vec<Message>, QueueError> {
        let end = Instant::now() + LONG_POLL;
        loop {
            let arrived = self.arrived.notified();
            let taken = self.take();
            if !taken.is_empty() || Instant::now() >= end {
                return Ok(taken);
            }
            let at = self.next_return().map_or(end, |returns| returns.min(end));
            let _ = tokio::time::timeout_at(at, arrived).await;
        }
    }

    async fn delete(&self, messages: &[ReceiptHandle]) -> Result<Vec<ReceiptHandle>, QueueError> {
        let mut state = self.state();
        for receipt in messages {
            state.in_flight.remove(&receipt.0);
        }
        Ok(Vec::new())
    }

    async fn extend(&self, message: &ReceiptHandle, visibility: Duration) -> Result<(), QueueError> {
        if let Some((until, _)) = self.state().in_flight.get_mut(&message.0) {
            *until = Instant::now() + visibility;
        }
        self.arrived.notify_one();
        Ok(())
    }

    fn visibility(&self) -> Duration {
        VISIBILITY
    }

    /// Nothing is ever on its way.
    fn receive_grace(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_not_deleted_comes_again() {
        let queue = LocalQueue::default();
        queue.send("a".into());
        let first = queue.receive().await.unwrap().remove(0);
        assert!(queue.receive().await.unwrap().is_empty(), "a long poll is shorter than the visibility");
        let again = queue.receive().await.unwrap().remove(0);
        assert_eq!((again.body.as_str(), again.receive_count), ("a", 2));
        queue.delete(&[first.receipt]).await.unwrap();
        assert!(queue.take().is_empty());
        assert_eq!(queue.next_return(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_released_comes_at_once() {
        let queue = LocalQueue::default();
        queue.send("a".into());
        let first = queue.receive().await.unwrap().remove(0);
        let before = Instant::now();
        queue.extend(&first.receipt, Duration::ZERO).await.unwrap();
        queue.receive().await.unwrap();
        assert_eq!(Instant::now(), before);
    }
}
