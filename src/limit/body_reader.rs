//! Reads request bodies into memory, within limits of size, time and memory.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::Body;
use http_body_util::BodyExt;
use tokio::time::timeout;

/// Bytes of each body that do not count against the shared memory. Nearly all bodies are smaller.
const UNCOUNTED_BYTES: usize = 16 * 1024;
/// A body of which nothing arrives for this share of its time limit is given up.
const STALL_SHARE: u32 = 3;

/// Reads request bodies. Clones share the memory.
#[derive(Debug, Clone)]
pub struct BodyReader {
    max_bytes: usize,
    time_limit: Duration,
    memory: Arc<SharedMemory>,
}

/// A request body that was not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// The body exceeds the limit, which is in bytes.
    #[error("the body must be at most {0} bytes")]
    TooLarge(usize),
    /// The body did not arrive in time.
    #[error("the body must arrive within {} s", .0.as_secs())]
    TimedOut(Duration),
    /// The memory for bodies is in use.
    #[error("the server is receiving too many large bodies; try again")]
    OutOfMemory,
    /// The connection failed, or the framing is invalid.
    #[error("failed to read the request body")]
    Failed,
}

/// Memory for bodies that are incomplete, in bytes.
#[derive(Debug)]
struct SharedMemory {
    total: usize,
    used: AtomicUsize,
}

/// The part of the memory that one body uses, until it is dropped.
struct Reservation<'a> {
    memory: &'a SharedMemory,
    bytes: usize,
}

impl BodyReader {
    /// Reads bodies of at most `max_bytes`, each within `time_limit`. The incomplete ones together use
    /// `memory_bytes`, besides 16 KiB each.
    #[must_use]
    pub fn new(max_bytes: usize, time_limit: Duration, memory_bytes: usize) -> Self {
        let memory = Arc::new(SharedMemory { total: memory_bytes, used: AtomicUsize::new(0) });
        Self { max_bytes, time_limit, memory }
    }

    /// Reads `body` to its end.
    ///
    /// # Errors
    /// When the body is too large, arrives too slowly or fails, or when the memory for bodies is in use.
    pub async fn read<B: Body + Unpin>(&self, body: B) -> Result<Bytes, BodyError> {
        let read = timeout(self.time_limit, self.read_frames(body)).await;
        read.unwrap_or(Err(BodyError::TimedOut(self.time_limit)))
    }

    async fn read_frames<B: Body + Unpin>(&self, mut body: B) -> Result<Bytes, BodyError> {
        if body.size_hint().lower() > self.max_bytes as u64 {
            return Err(BodyError::TooLarge(self.max_bytes));
        }
        let mut reservation = Reservation { memory: &self.memory, bytes: 0 };
        let mut read = Vec::new();
        while let Some(frame) = self.next_frame(&mut body).await? {
            let Ok(mut data) = frame.into_data() else { continue };
            let length = read.len() + data.remaining();
            if length > self.max_bytes {
                return Err(BodyError::TooLarge(self.max_bytes));
            }
            reservation.grow_to(length.saturating_sub(UNCOUNTED_BYTES))?;
            while data.has_remaining() {
                let chunk = data.chunk();
                read.extend_from_slice(chunk);
                let length = chunk.len();
                data.advance(length);
            }
        }
        Ok(read.into())
    }

    async fn next_frame<B: Body + Unpin>(
        &self,
        body: &mut B,
    ) -> Result<Option<http_body::Frame<B::Data>>, BodyError> {
        let frame = timeout(self.time_limit / STALL_SHARE, body.frame()).await;
        let frame = frame.map_err(|_| BodyError::TimedOut(self.time_limit))?;
        frame.transpose().map_err(|_| BodyError::Failed)
    }
}

impl Reservation<'_> {
    fn grow_to(&mut self, bytes: usize) -> Result<(), BodyError> {
        let more = bytes.saturating_sub(self.bytes);
        if self.memory.used.fetch_add(more, Relaxed) + more > self.memory.total {
            self.memory.used.fetch_sub(more, Relaxed);
            return Err(BodyError::OutOfMemory);
        }
        self.bytes += more;
        Ok(())
    }
}

impl Drop for Reservation<'_> {
    fn drop(&mut self) {
        self.memory.used.fetch_sub(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, pin::pin};

    use futures_util::{FutureExt, StreamExt, stream};
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    const KIB: usize = 1024;

    fn reader(memory_bytes: usize) -> BodyReader {
        BodyReader::new(100 * KIB, Duration::from_secs(30), memory_bytes)
    }

    /// A body of `size` bytes each `interval`, endlessly.
    fn endless(size: usize, interval: Duration) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let chunks = stream::repeat(()).then(move |()| async move {
            tokio::time::sleep(interval).await;
            Ok(Frame::data(Bytes::from(vec![0; size])))
        });
        StreamBody::new(Box::pin(chunks))
    }

    #[tokio::test]
    async fn a_body_is_read_whole_up_to_the_limit() {
        let read = async |size: usize| reader(200 * KIB).read(Full::new(Bytes::from(vec![7; size]))).await;
        assert_eq!(read(0).await.unwrap(), Bytes::new());
        assert_eq!(read(100 * KIB).await.unwrap(), vec![7; 100 * KIB]);
        assert_eq!(read(100 * KIB + 1).await, Err(BodyError::TooLarge(100 * KIB)));
        let chunked = endless(KIB, Duration::from_millis(1));
        assert_eq!(reader(200 * KIB).read(chunked).await, Err(BodyError::TooLarge(100 * KIB)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_stalls_or_trickles_is_given_up() {
        let limit = Duration::from_secs(30);
        for (interval, given_up_after) in
            [(Duration::from_hours(1), limit / 3), (Duration::from_secs(1), limit)]
        {
            let started = tokio::time::Instant::now();
            assert_eq!(reader(KIB).read(endless(1, interval)).await, Err(BodyError::TimedOut(limit)));
            assert_eq!(started.elapsed(), given_up_after);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn incomplete_bodies_share_the_memory_and_small_ones_need_none() {
        let reader = reader(100 * KIB);
        let incomplete = || {
            let start =
                stream::once(async { Ok::<_, Infallible>(Frame::data(Bytes::from(vec![0; 70 * KIB]))) });
            StreamBody::new(Box::pin(start.chain(stream::pending())))
        };
        let mut first = Box::pin(reader.read(incomplete()));
        assert!(first.as_mut().now_or_never().is_none());
        let second = pin!(reader.read(incomplete())).await;
        assert_eq!(
            second,
            Err(BodyError::OutOfMemory),
            "46 KiB of 100 are left, and 16 of 70 are not counted"
        );
        let small = reader.read(Full::new(Bytes::from(vec![0; 16 * KIB]))).await;
        assert!(small.is_ok());
        drop(first);
        assert!(pin!(reader.read(incomplete())).now_or_never().is_none(), "the memory is free again");
        assert_eq!(reader.memory.used.load(Relaxed), 0);
    }
}
