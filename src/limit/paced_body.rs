//! A request body of any size that must keep arriving.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Buf, Bytes};
use http_body::{Body, Frame, SizeHint};
use tokio::time::{Instant, Sleep, sleep};

/// The body fails unless this much of it arrives in each window.
const MIN_BYTES_PER_WINDOW: usize = 4 * 1024;
const WINDOW: Duration = Duration::from_secs(30);

/// Passes a body on, and fails if it arrives too slowly.
#[derive(Debug)]
pub struct PacedBody<B> {
    body: B,
    window: Pin<Box<Sleep>>,
    bytes_in_window: usize,
}

/// The body arrives too slowly, or its connection failed.
#[derive(Debug, thiserror::Error)]
pub enum PacedBodyError<E> {
    /// Less arrived in one window than the minimum.
    #[error("less than {MIN_BYTES_PER_WINDOW} bytes of the body arrived in {} s", WINDOW.as_secs())]
    TooSlow,
    /// The body failed.
    #[error(transparent)]
    Body(E),
}

impl<B> PacedBody<B> {
    /// Wraps `body`, whose first window begins now.
    pub fn new(body: B) -> Self {
        Self { body, window: Box::pin(sleep(WINDOW)), bytes_in_window: 0 }
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for PacedBody<B> {
    type Data = Bytes;
    type Error = PacedBodyError<B::Error>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            let data = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.data_ref());
            self.bytes_in_window += data.map_or(0, Buf::remaining);
            return Poll::Ready(frame.map(|frame| frame.map_err(PacedBodyError::Body)));
        }
        while self.window.as_mut().poll(context).is_ready() {
            if self.bytes_in_window < MIN_BYTES_PER_WINDOW {
                return Poll::Ready(Some(Err(PacedBodyError::TooSlow)));
            }
            self.bytes_in_window = 0;
            self.window.as_mut().reset(Instant::now() + WINDOW);
        }
        Poll::Pending
    }

    // Without these, a body of a known size would become one of unknown size.
    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use futures_util::{StreamExt, stream};
    use http_body_util::{BodyExt, Full, StreamBody};

    use super::*;

    /// A body of 1,000 chunks of `size` bytes, one a second.
    fn one_chunk_a_second(size: usize) -> impl Body<Data = Bytes, Error = Infallible> + Unpin {
        let chunks = stream::iter(0..1000).then(move |_| async move {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Ok(Frame::data(Bytes::from(vec![0; size])))
        });
        StreamBody::new(Box::pin(chunks))
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_body_may_take_long_but_not_trickle() {
        let steady = PacedBody::new(one_chunk_a_second(1024)).collect().await.unwrap();
        assert_eq!(steady.to_bytes().len(), 1024 * 1000);
        let started = Instant::now();
        assert!(PacedBody::new(one_chunk_a_second(1)).collect().await.is_err());
        assert_eq!(started.elapsed(), WINDOW);
    }

    #[tokio::test]
    async fn the_size_of_the_body_stays_known() {
        assert_eq!(PacedBody::new(Full::from("12345")).size_hint().exact(), Some(5));
        assert!(PacedBody::new(Full::<Bytes>::default()).is_end_stream());
    }
}
