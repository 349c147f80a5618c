//! Clients: bare `WebSocket`s that count the events they receive and check that none is missing.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use tokio::{io::AsyncWriteExt, net::TcpStream};

/// Size of the read buffer that all clients share, in bytes.
const READ_BUFFER_BYTES: usize = 256 * 1024;
/// Resolution of the latency histogram.
const LATENCY_RESOLUTION: Duration = Duration::from_micros(100);
const LATENCY_BUCKETS: usize = 300_000;

/// What all clients together received.
pub struct Tally {
    pub received: u64,
    /// Events that did not follow the one before.
    pub out_of_order: u64,
    pub bytes: u64,
    pub last: Instant,
    /// Clients whose connection ended.
    pub disconnected: u64,
    latencies: Vec<u32>,
    read_buffer: Vec<u8>,
}

#[derive(Clone)]
pub struct SharedTally(Arc<Mutex<Tally>>);

/// One client, in one feed.
pub struct Client {
    stream: TcpStream,
    shared: SharedTally,
    feed: String,
    /// Bytes of a frame that is not complete yet.
    partial_frame: Vec<u8>,
    next_number: u64,
    /// Position of the number in an event.
    number_offset: Option<usize>,
}

impl SharedTally {
    pub fn new() -> Self {
        Self(Arc::new(Mutex::new(Tally {
            received: 0,
            out_of_order: 0,
            bytes: 0,
            last: Instant::now(),
            disconnected: 0,
            latencies: vec![0; LATENCY_BUCKETS],
            read_buffer: vec![0; READ_BUFFER_BYTES],
        })))
    }

    pub fn tally(&self) -> MutexGuard<'_, Tally> {
        self.0.lock().expect("no panic while held")
    }
}

impl Tally {
    /// Latency that a share of the events did not exceed.
    pub fn percentile(&self, share: f64) -> Duration {
        let mut left = (self.received as f64 * share).ceil() as u64;
        for (bucket, count) in (1..).zip(&self.latencies) {
            left = left.saturating_sub(u64::from(*count));
            if left == 0 {
                return LATENCY_RESOLUTION * bucket;
            }
        }
        LATENCY_RESOLUTION * LATENCY_BUCKETS as u32
    }
}

impl Client {
    /// Connects and joins `feed` in the handshake.
    pub async fn connect(address: SocketAddr, feed: String, shared: SharedTally) -> anyhow::Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let head = format!(
            "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        let mut client =
            Self { stream, shared, feed, partial_frame: Vec::new(), next_number: 0, number_offset: None };
        client.read_head().await?;
        client.wait_for_frame(b"0{").await?;
        let connect = format!("40{{\"feeds\":[\"{}\"]}}", client.feed);
        client.send_text(&connect).await?;
        client.wait_for_frame(b"42[\"joined\"").await?;
        Ok(client)
    }

    /// Joins another feed and waits for the reply.
    pub async fn join(&mut self, feed: &str) -> anyhow::Result<()> {
        self.send_text(&format!("420[\"join\",\"{feed}\"]")).await?;
        self.wait_for_frame(b"430[").await
    }

    /// Counts events until the connection ends.
    pub async fn receive_events(mut self) {
        while self.read_frames(|_| ()).await.is_ok() {}
        self.shared.tally().disconnected += 1;
    }

    async fn read_head(&mut self) -> anyhow::Result<()> {
        let mut head = Vec::new();
        let end = loop {
            self.stream.readable().await?;
            match self.stream.try_read_buf(&mut head) {
                Ok(0) => bail!("the server closed the connection during the handshake"),
                Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => return Err(error.into()),
                _ => {}
            }
            if let Some(at) = head.windows(4).position(|four| four == b"\r\n\r\n") {
                break at + 4;
            }
        };
        self.partial_frame = head.split_off(end);
        if head.starts_with(b"HTTP/1.1 101") { Ok(()) } else { bail!("the server refused the WebSocket") }
    }

    async fn wait_for_frame(&mut self, prefix: &[u8]) -> anyhow::Result<()> {
        let mut received_frame = false;
        // Frames that arrived together with the head.
        if self.process_frames(false, |frame| received_frame |= frame.starts_with(prefix))? {
            self.send_text("3").await?;
        }
        while !received_frame {
            self.read_frames(|frame| received_frame |= frame.starts_with(prefix)).await?;
        }
        Ok(())
    }

    async fn send_text(&mut self, text: &str) -> anyhow::Result<()> {
        // A mask of zeros leaves the text unchanged.
        let length = u8::try_from(text.len())
            .ok()
            .filter(|length| *length < 126)
            .context("the text is too long for a short frame")?;
        let mut frame = vec![0x81, 0x80 | length, 0, 0, 0, 0];
        frame.extend_from_slice(text.as_bytes());
        Ok(self.stream.write_all(&frame).await?)
    }

    /// Reads once, and answers a ping.
    async fn read_frames(&mut self, each: impl FnMut(&[u8])) -> anyhow::Result<()> {
        self.stream.readable().await?;
        let pinged = self.process_frames(true, each)?;
        if pinged { self.send_text("3").await } else { Ok(()) }
    }

    /// Processes complete frames, after another read if `read` is set. Returns whether one of them was a
    /// ping.
    fn process_frames(&mut self, read: bool, mut each: impl FnMut(&[u8])) -> anyhow::Result<bool> {
        let shared = self.shared.clone();
        let mut tally = shared.tally();
        let Tally { read_buffer, received, bytes, out_of_order, latencies, last, .. } = &mut *tally;
        let mut filled = self.partial_frame.len();
        read_buffer[..filled].copy_from_slice(&self.partial_frame);
        if read {
            filled += match self.stream.try_read(&mut read_buffer[filled..]) {
                Ok(0) => bail!("the server closed the connection"),
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => 0,
                Err(error) => return Err(error.into()),
            };
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
        *last = Instant::now();
        let mut pinged = false;
        let mut left = &read_buffer[..filled];
        while let Some((start, end)) = find_payload(left) {
            let payload = &left[start..end];
            left = &left[end..];
            if payload.starts_with(b"42[\"image") {
                let (number, due) = parse_stamp(payload, &self.feed, &mut self.number_offset)?;
                *received += 1;
                *bytes += payload.len() as u64;
                *out_of_order += u64::from(number != self.next_number);
                self.next_number = number + 1;
                let latency = now.saturating_sub(Duration::from_micros(due)).as_micros();
                latencies[((latency / LATENCY_RESOLUTION.as_micros()) as usize).min(LATENCY_BUCKETS - 1)] +=
                    1;
            } else {
                pinged |= payload == b"2";
                each(payload);
            }
        }
        self.partial_frame.clear();
        self.partial_frame.extend_from_slice(left);
        Ok(pinged)
    }
}

/// Range of the payload of the first frame, if it is complete. Servers don't mask.
fn find_payload(bytes: &[u8]) -> Option<(usize, usize)> {
    let (start, length) = match *bytes.get(1)? {
        126 => (4, u64::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().ok()?))),
        127 => (10, u64::from_be_bytes(bytes.get(2..10)?.try_into().ok()?)),
        length => (2, u64::from(length)),
    };
    let end = start + usize::try_from(length).ok()?;
    (bytes.len() >= end).then_some((start, end))
}

/// Parses the number and the due time in the key: `{feed}/{10 digits}-{16 digits}`.
fn parse_stamp(payload: &[u8], feed: &str, offset: &mut Option<usize>) -> anyhow::Result<(u64, u64)> {
    let start = if let Some(offset) = *offset {
        offset
    } else {
        let before = format!("\"key\":\"{feed}/");
        let found = payload.windows(before.len()).position(|part| part == before.as_bytes());
        *offset.insert(found.context("an event without a key")? + before.len())
    };
    let digits = |from: usize, to: usize| {
        payload.get(from..to).map(|digits| digits.iter().fold(0, |sum, d| sum * 10 + u64::from(d - b'0')))
    };
    digits(start, start + 10).zip(digits(start + 11, start + 27)).context("the key of an event is too short")
}
