//! Accepts connections, each with a way to end it from outside.
//!
//! A peer that stops reading leaves its writer waiting for ever, out of reach of time-outs further up.
//! Cutting the stream below it frees everything above.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{extract::connect_info::Connected, serve::IncomingStream};
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// What the kernel may hold for one that does not read.
const SEND_BUFFER: usize = 64 * 1024;
/// A peer that acknowledges nothing for so long is gone. Longer than a phone's gap in a tunnel.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// A peer that has been silent for so long is asked whether it is still there. One may have vanished between
/// two requests, when nothing is written to it.
const SILENT: Duration = Duration::from_mins(1);
/// It is asked again after this.
const PROBE: Duration = Duration::from_secs(15);
/// It is gone if it did not answer so often.
const PROBES: u32 = 4;
/// Writes to a peer that is gone of which nobody above is told: the answer that makes a connection a
/// WebSocket, Engine.IO's first word on it, and one more.
const UNTOLD: u8 = 3;

/// Listens for TCP connections.
#[derive(Debug)]
pub struct Listener {
    /// Where.
    pub socket: TcpListener,
    /// Ends every connection when it is cancelled.
    pub cut_all: CancellationToken,
}

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub struct Peer {
    /// The address that the connection comes from (a proxy's, behind one).
    pub address: SocketAddr,
    /// Ends the connection when it is cancelled.
    pub cut: Arc<CancellationToken>,
}

/// A stream that can be cut.
#[derive(Debug)]
pub struct Severable {
    stream: TcpStream,
    peer: Peer,
    /// What is left of [`UNTOLD`].
    untold: u8,
    // One each, since reader and writer wait in different tasks.
    cut_read: Pin<Box<WaitForCancellationFutureOwned>>,
    cut_write: Pin<Box<WaitForCancellationFutureOwned>>,
}

impl axum::serve::Listener for Listener {
    type Io = Severable;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Severable, SocketAddr) {
        let (stream, address) = axum::serve::Listener::accept(&mut self.socket).await;
        if let Err(error) = set_options(&stream) {
            // The peer may be gone already; reading will tell.
            tracing::debug!(%error, "socket options");
        }
        (Severable::new(stream, address, self.cut_all.child_token()), address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Self {
        stream.io().peer.clone()
    }
}

impl Severable {
    fn new(stream: TcpStream, address: SocketAddr, cut: CancellationToken) -> Self {
        let cut = Arc::new(cut);
        Self {
            stream,
            untold: UNTOLD,
            cut_read: Box::pin((*cut).clone().cancelled_owned()),
            cut_write: Box::pin((*cut).clone().cancelled_owned()),
            peer: Peer { address, cut },
        }
    }

    fn stream(self: Pin<&mut Self>) -> Pin<&mut TcpStream> {
        Pin::new(&mut self.get_mut().stream)
    }

    /// Leaves it to the reader to notice that the peer is gone: engineioxide keeps the session of a WebSocket
    /// whose very first write fails for ever. But not for long: hyper does not read on while it answers a
    /// client that sent something after its request.
    fn or_untold(&mut self, written: Poll<io::Result<usize>>, all: usize) -> Poll<io::Result<usize>> {
        match written {
            Poll::Ready(Err(_)) if self.untold > 0 => {
                self.untold -= 1;
                Poll::Ready(Ok(all))
            }
            written => written,
        }
    }
}

/// Waits for the cut beside the stream. What the stream does at once is not asked about: it is the one that
/// waits whom nobody else can reach, and whoever is cut waits for its peer's next word at least.
fn unless_cut<T>(
    done: Poll<io::Result<T>>,
    cut: &mut Pin<Box<WaitForCancellationFutureOwned>>,
    context: &mut Context<'_>,
) -> Poll<io::Result<T>> {
    match done {
        Poll::Pending if cut.as_mut().poll(context).is_ready() => {
            Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()))
        }
        done => done,
    }
}

fn set_options(stream: &TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_send_buffer_size(SEND_BUFFER)?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new().with_time(SILENT).with_interval(PROBE).with_retries(PROBES),
    )?;
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    Ok(())
}

impl AsyncRead for Severable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.as_mut().stream().poll_read(cx, buf);
        unless_cut(read, &mut self.cut_read, cx)
    }
}

impl AsyncWrite for Severable {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = self.as_mut().stream().poll_write(cx, buf);
        let written = self.or_untold(written, buf.len());
        unless_cut(written, &mut self.cut_write, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().stream().poll_write_vectored(cx, bufs);
        let written = self.or_untold(written, bufs.iter().map(|buf| buf.len()).sum());
        unless_cut(written, &mut self.cut_write, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream().poll_shutdown(cx)
    }
}
