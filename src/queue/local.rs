//! In-memory queue, for `photoshare dev`.

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

use super::{MAX_BATCH_SIZE, Message, Queue, QueueError, ReceiptHandle};

const LONG_POLL_TIMEOUT: Duration = Duration::from_secs(20);
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(30);

/// An in-memory [`Queue`] with the semantics of SQS: a received message becomes visible again unless it
/// is deleted within its visibility timeout.
#[derive(Debug, Default)]
pub struct LocalQueue {
    state: Mutex<QueueState>,
    /// Wakes a waiting receive: a message was sent or released.
    became_visible: Notify,
    next_id: AtomicU64,
}

#[derive(Debug, Default)]
struct QueueState {
    visible: VecDeque<Message>,
    /// Received messages by receipt handle, with the time at which each becomes visible again.
    in_flight: HashMap<String, (Instant, Message)>,
}

impl LocalQueue {
    /// Sends a message.
    pub fn send(&self, body: String) {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed).to_string();
        let receipt = ReceiptHandle(id.clone());
        self.lock_state().visible.push_back(Message { id, receipt, body, receive_count: 0 });
        self.became_visible.notify_one();
    }

    fn lock_state(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().expect("no panic while held")
    }

    /// Receives the messages that are visible now, at most [`MAX_BATCH_SIZE`].
    fn receive_visible(&self) -> Vec<Message> {
        let now = Instant::now();
        let mut state = self.lock_state();
        let QueueState { visible, in_flight } = &mut *state;
        let timed_out = in_flight.extract_if(|_, (visible_at, _)| *visible_at <= now);
        visible.extend(timed_out.map(|(_, (_, message))| message));
        let count = visible.len().min(MAX_BATCH_SIZE);
        let mut received: Vec<_> = visible.drain(..count).collect();
        for message in &mut received {
            message.receive_count += 1;
            in_flight.insert(message.id.clone(), (now + VISIBILITY_TIMEOUT, message.clone()));
        }
        received
    }

    /// When the next message in flight becomes visible again.
    fn next_visible_at(&self) -> Option<Instant> {
        self.lock_state().in_flight.values().map(|(visible_at, _)| *visible_at).min()
    }
}

#[async_trait]
impl Queue for LocalQueue {
    async fn receive(&self) -> Result<Vec<Message>, QueueError> {
        let deadline = Instant::now() + LONG_POLL_TIMEOUT;
        loop {
            let became_visible = self.became_visible.notified();
            let received = self.receive_visible();
            if !received.is_empty() || Instant::now() >= deadline {
                return Ok(received);
            }
            let wake_at = self.next_visible_at().map_or(deadline, |visible_at| visible_at.min(deadline));
            let _ = tokio::time::timeout_at(wake_at, became_visible).await;
        }
    }

    async fn delete(&self, messages: &[ReceiptHandle]) -> Result<Vec<ReceiptHandle>, QueueError> {
        let mut state = self.lock_state();
        for receipt in messages {
            state.in_flight.remove(&receipt.0);
        }
        Ok(Vec::new())
    }

    async fn change_visibility(
        &self,
        message: &ReceiptHandle,
        visibility: Duration,
    ) -> Result<(), QueueError> {
        if let Some((visible_at, _)) = self.lock_state().in_flight.get_mut(&message.0) {
            *visible_at = Instant::now() + visibility;
        }
        self.became_visible.notify_one();
        Ok(())
    }

    fn visibility_timeout(&self) -> Duration {
        VISIBILITY_TIMEOUT
    }

    /// Zero: a receive that is dropped has received nothing.
    fn receive_grace(&self) -> Duration {
        Duration::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_message_that_is_not_deleted_is_received_again() {
        let queue = LocalQueue::default();
        queue.send("a".into());
        let first = queue.receive().await.unwrap().remove(0);
        assert!(
            queue.receive().await.unwrap().is_empty(),
            "the long poll is shorter than the visibility timeout"
        );
        let again = queue.receive().await.unwrap().remove(0);
        assert_eq!((again.body.as_str(), again.receive_count), ("a", 2));
        queue.delete(&[first.receipt]).await.unwrap();
        assert!(queue.receive_visible().is_empty());
        assert_eq!(queue.next_visible_at(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_released_message_is_received_at_once() {
        let queue = LocalQueue::default();
        queue.send("a".into());
        let first = queue.receive().await.unwrap().remove(0);
        let before = Instant::now();
        queue.change_visibility(&first.receipt, Duration::ZERO).await.unwrap();
        queue.receive().await.unwrap();
        assert_eq!(Instant::now(), before);
    }
}
