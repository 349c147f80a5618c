//! What all connections share: the components that serve them, and their limits.

use std::{sync::Arc, time::Duration};

use crate::{
    auth::{Authenticator, MAX_TOKEN_BYTES},
    client_address::ClientAddressResolver,
    hub::Hub,
    limit::{ConnectionQuota, RateLimits},
    protocol::{EventEncoder, UrlBase},
};

/// Packets that socketioxide queues per connection. Events that do not fit stay in the log.
pub(super) const PACKET_QUEUE_CAPACITY: usize = 128;
/// Minimum of the payload limit of a polling request or response, in bytes. It may hold several packets.
pub(super) const POLL_PAYLOAD_BYTES: usize = 100_000;
/// Memory for the incomplete bodies of polling requests, in bytes.
pub(super) const BODY_MEMORY_BYTES: usize = 16 * 1024 * 1024;
/// A transport that does not connect to the namespace within this time is closed.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for a client that was refused, or that has left the namespace, to receive the reason before its
/// transport is closed.
pub(super) const CLOSE_DELAY: Duration = Duration::from_millis(2500);
/// Time within which a polling client sends its next poll.
pub(super) const NEXT_POLL_TIMEOUT: Duration = Duration::from_secs(1);

/// Bytes of a handshake per feed: a name of 64 characters that may all be escaped, and a cursor of 128.
const HANDSHAKE_BYTES_PER_FEED: usize = 320;

/// The components that serve a connection, and its settings.
pub struct ConnectionContext {
    /// Authenticates handshakes and `authenticate` requests.
    pub authenticator: Arc<Authenticator>,
    /// Rate limits of joins.
    pub rate_limits: Arc<RateLimits>,
    /// Quota of concurrent connections.
    pub connection_quota: Arc<ConnectionQuota>,
    /// Resolves the addresses that the quota counts.
    pub client_addresses: ClientAddressResolver,
    /// Delivers events.
    pub hub: Arc<Hub>,
    /// Encodes events.
    pub event_encoder: Arc<EventEncoder>,
    /// Limits of each connection.
    pub limits: ConnectionLimits,
    /// Determines the bucket URL that signed URLs begin with.
    pub url_base: UrlBase,
    /// Whether all clients are notified of each connect and disconnect, as old servers did.
    pub announce_connections: bool,
}

/// Limits of one connection.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Feeds that a connection may join.
    pub feeds_per_connection: usize,
    /// Time after which a connection that accepts no data is aborted.
    pub stall_timeout: Duration,
    /// Time within which the body of a polling request must arrive.
    pub request_timeout: Duration,
    /// Longest message that a client may send, in bytes.
    pub max_message_bytes: usize,
}

impl ConnectionLimits {
    /// Longest useful message, in bytes: a handshake with the longest token and `feeds` feeds.
    #[must_use]
    pub fn max_handshake_bytes(feeds: usize) -> usize {
        1024 + MAX_TOKEN_BYTES + feeds * HANDSHAKE_BYTES_PER_FEED
    }
}
