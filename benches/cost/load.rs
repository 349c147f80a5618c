//! Clients: bare `WebSocket`s that count what they are told and prove that nothing is missing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// A read brings at most this.
const SCRATCH: usize = 256 * 1024;
const BUCKET: Duration = Duration::from_micros(100);
const BUCKETS: usize = 300_000;

/// What all clients together were told.
pub struct Tally {
    pub received: u64,
    /// Events that did not follow the one before.
    pub out_of_order: u64,
    pub bytes: u64,
    pub last: Instant,
    /// Clients whose connection ended.
    pub gone: u64,
    latencies: Vec<u32>,
    scratch: Vec<u8>,
}

#[derive(Clone)]
pub struct Shared(Arc<Mutex<Tally>>);

/// One client, in one feed.
pub struct Client {
    stream: TcpStream,
    shared: Shared,
    feed: String,
    /// The beginning of a frame that has not come as a whole.
    rest: Vec<u8>,
    next: u64,
    /// Where in an event its number stands.
    number_at: Option<usize>,
}

impl Shared {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Tally {
            received: 0,
            out_of_order: 0,
            bytes: 0,
            last: Instant::now(),
            gone: 0,
            latencies: vec![0; BUCKETS],
            scratch: vec![0; SCRATCH],
        })))
    }

    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().expect("no panic while held")
    }
}

impl Tally {
    /// The latency that a share of the events did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        let mut left = (self.received as f64 * share).ceil() as u64;
        for (bucket, count) in (1..).zip(&self.latencies) {
            left = left.saturating_sub(u64::from(*count));
            if left == 0 {
                return BUCKET * bucket;
            }
        }
        BUCKET * BUCKETS as u32
    }
}

impl Client {
    /// Connects and joins `feed` in the handshake.
    pub async fn connect(address: SocketAddr, feed: String, shared: Shared) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let head = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut client = Self { stream, shared, feed, rest: Vec::new(), next: 0, number_at: None };
        client.read_head().await?;
        client.hear(b"0{").await?;
        let connect = format!("40{{\"feeds\":[\"{}\"]}}", client.feed);
        client.say(&connect).await?;
        client.hear(b"42[\"joined\"").await?;
        Ok(client)
    }

    /// Joins one more feed and waits for the answer.
    pub async fn join(&mut self, feed: &str) -> anyhow::Result<()> {
        self.say(&format!("420[\"join\",\"{feed}\"]")).await?;
        self.hear(b"430[").await
    }

    /// Counts what comes, until the connection ends.
    pub async fn listen(mut self) {
        while self.frames(|_| ()).await.is_ok() {}
        self.shared.tally().gone += 1;
    }

    async fn read_head(&mut self) -> anyhow::Result<()> {
        let mut head = Vec::new();
        let end = loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut head) {
                Ok(0) => bail!("closed in the handshake"),
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error.into()),
                _ => {}
            }
            if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        self.rest = head.split_off(end);
        if head.starts_with(b"HTTP/1.1 101") { Ok(()) } else { bail!("the WebSocket was refused") }
    }

    async fn hear(&mut self, beginning: &[u8]) -> anyhow::Result<()> {
        let mut heard = false;
        // What came with the head is here already.
        if self.take(false, |frame| heard |= frame.starts_with(beginning))? {
            self.say("3").await?;
        }
        while !heard {
            self.frames(|frame| heard |= frame.starts_with(beginning)).await?;
        }
        Ok(())
    }

    async fn say(&mut self, text: &str) -> anyhow::Result<()> {
        // Masked with zeros, which leaves the text as it is.
        let length = u8::try_from(text.len()).ok().filter(|length| *length < 126).context("too long")?;
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        Ok(self.stream.write_all(&frame).await?)
    }

    /// Reads what there is.
    async fn frames(&mut self, each: impl FnMut(&[u8])) -> anyhow::Result<()> {
        self.stream.readable().await?;
        let pinged = self.take(true, each)?;
        if pinged { self.say("3").await } else { Ok(()) }
    }

    /// Takes the frames that are whole, after a `read` or from what is left of the last. Whether one of
    /// them was a ping.
    fn take(&mut self, read: bool, mut each: impl FnMut(&[u8])) -> anyhow::Result<bool> {
        let shared = self.shared.clone();
        let mut tally = shared.tally();
        let Tally { scratch, received, bytes, out_of_order, latencies, last, .. } = &mut *tally;
        let mut filled = self.rest.len();
        scratch[..filled].copy_from_slice(&self.rest);
        if read {
            filled += match self.stream.try_read(&mut scratch[filled..]) {
                Ok(0) => bail!("closed"),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error.into()),
            };
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        *last = Instant::now();
        let mut pinged = false;
        let mut left = &scratch[..filled];
        while let Some((begin, end)) = frame(left) {
            let payload = &left[begin..end];
            left = &left[end..];
            if payload.starts_with(b"42[\"image") {
                let (number, due) = stamp(payload, &self.feed, &mut self.number_at)?;
                *received += 1;
                *bytes += payload.len() as u64;
                *out_of_order += u64::from(number != self.next);
                self.next = number + 1;
                let late = now.saturating_sub(Duration::from_micros(due)).as_micros();
                latencies[((late / BUCKET.as_micros()) as usize).min(BUCKETS - 1)] += 1;
            } else {
                pinged |= payload == b"2";
                each(payload);
            }
        }
        self.rest.clear();
        self.rest.extend_from_slice(left);
        Ok(pinged)
    }
}

/// Where the payload of the first frame begins and ends, if all of it is there. Servers don't mask.
fn frame(bytes: &[u8]) -> Option<(usize, usize)> {
    let (begin, length) = match *bytes.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        length => (2, u64::from(length)),
    };
    let end = begin + usize::try_from(length).ok()?;
    (bytes.len() >= end).then_some((begin, end))
}

/// The number and the due time in the key: `{feed}/{10 digits}-{16 digits}`.
fn stamp(payload: &[u8], feed: &str, at: &mut Option<usize>) -> anyhow::Result<(u64, u64)> {
    let at = if let Some(at) = *at {
        at
    } else {
        let before = format!("\"key\":\"{feed}/");
        let found = payload.windows(before.len()).position(|part| part == before.as_bytes());
        *at.insert(found.context("an event without a key")? + before.len())
    };
    let digits = |from: usize, to: usize| {
        payload.get(from..to).map(|digits| digits.iter().fold(0, |sum, d| sum * 10 + u64::from(d - b'0')))
    };
    digits(at, at + 10).zip(digits(at + 11, at + 27)).context("a short key")
}
