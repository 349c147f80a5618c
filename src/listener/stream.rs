//! A TCP stream that can be aborted, and that limits the wait for a request.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{capacity::ConnectionSlot, peer::Peer, request_timer::RequestTimer};

/// Kernel send buffer, in bytes: what the kernel holds for a peer that does not read.
const SEND_BUFFER_BYTES: usize = 64 * 1024;
/// Idle time before the first TCP keep-alive probe. Between two requests nothing is written to a peer, so
/// that only a probe finds out that it has disappeared.
const KEEPALIVE_IDLE: Duration = Duration::from_mins(1);
/// Time between two keep-alive probes.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(15);
/// Unanswered keep-alive probes after which the kernel closes the connection.
const KEEPALIVE_PROBES: u32 = 4;
/// Failed writes that a stream reports as successful, see [`AbortableStream::ignore_write_error`]: the
/// response `101 Switching Protocols`, the Engine.IO open packet, and one more.
const MAX_IGNORED_WRITE_ERRORS: u8 = 3;

/// A TCP stream that can be aborted.
#[derive(Debug)]
pub(super) struct AbortableStream {
    stream: TcpStream,
    peer: Peer,
    request_timer: RequestTimer,
    /// `None` for a connection above the limit.
    _slot: Option<ConnectionSlot>,
    /// What is left of [`MAX_IGNORED_WRITE_ERRORS`].
    ignorable_write_errors: u8,
    // One each: reader and writer wait in different tasks, and a future keeps only the latest waker.
    read_aborted: Pin<Box<WaitForCancellationFutureOwned>>,
    write_aborted: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl AbortableStream {
    pub(super) fn new(
        stream: TcpStream,
        peer: Peer,
        request_timer: RequestTimer,
        slot: Option<ConnectionSlot>,
    ) -> Self {
        Self {
            stream,
            ignorable_write_errors: MAX_IGNORED_WRITE_ERRORS,
            read_aborted: Box::pin((*peer.abort).clone().cancelled_owned()),
            write_aborted: Box::pin((*peer.abort).clone().cancelled_owned()),
            peer,
            request_timer,
            _slot: slot,
        }
    }

    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    fn tcp_stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }

    /// Reports the first failed writes as successful, so that it is the reader that finds the connection
    /// closed.
    ///
    /// engineioxide never drops the session of a WebSocket whose very first write fails. The number is
    /// limited, since the reader does not always find out: hyper does not read while it responds to a client
    /// that sent something after its request.
    fn ignore_write_error(
        &mut self,
        result: Poll<io::Result<usize>>,
        bytes: usize,
    ) -> Poll<io::Result<usize>> {
        match result {
            Poll::Ready(Err(_)) if self.ignorable_write_errors > 0 => {
                self.ignorable_write_errors -= 1;
                Poll::Ready(Ok(bytes))
            }
            result => result,
        }
    }
}

/// Fails a pending operation when the stream is aborted.
///
/// An operation that is ready passes without a check, which saves one on each write. The abort still takes
/// effect: every connection waits for its peer at some point, if only for the next read.
fn fail_if_aborted<T>(
    result: Poll<io::Result<T>>,
    aborted: &mut Pin<Box<WaitForCancellationFutureOwned>>,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    match result {
        Poll::Pending if aborted.as_mut().poll(context).is_ready() => {
            Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
        }
        result => result,
    }
}

/// Sets the options of a new connection. The kernel closes it when its peer acknowledges nothing for
/// `user_timeout` (`TCP_USER_TIMEOUT`).
pub(super) fn set_socket_options(stream: &TcpStream, user_timeout: Duration) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER_BYTES)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(KEEPALIVE_IDLE)
            .with_interval(KEEPALIVE_INTERVAL)
            .with_retries(KEEPALIVE_PROBES),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(user_timeout))?;
    #[cfg(not(target_os = "linux"))]
    let _ = user_timeout;
    Ok(())
}

impl AsyncRead for AbortableStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let filled = buf.filled().len();
        match self.as_mut().tcp_stream().poll_read(cx, buf) {
            Poll::Ready(result) => {
                if buf.filled().len() > filled {
                    self.request_timer.on_read();
                }
                Poll::Ready(result)
            }
            Poll::Pending if self.request_timer.poll_expired(cx).is_ready() => {
                Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
            }
            Poll::Pending => fail_if_aborted(Poll::Pending, &mut self.read_aborted, cx),
        }
    }
}

impl AsyncWrite for AbortableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = self.as_mut().tcp_stream().poll_write(cx, buf);
        let result = self.ignore_write_error(result, buf.len());
        fail_if_aborted(result, &mut self.write_aborted, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = self.as_mut().tcp_stream().poll_write_vectored(cx, bufs);
        let result = self.ignore_write_error(result, bufs.iter().map(|buf| buf.len()).sum());
        fail_if_aborted(result, &mut self.write_aborted, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp_stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.tcp_stream().poll_shutdown(cx)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn the_kernel_waits_as_long_for_a_peer_as_the_server() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        set_socket_options(&stream, Duration::from_secs(100)).unwrap();
        assert_eq!(SockRef::from(&stream).tcp_user_timeout().unwrap(), Some(Duration::from_secs(100)));
    }
}
