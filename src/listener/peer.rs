//! The remote end of a connection, as requests carry it.

use std::{net::SocketAddr, sync::Arc};

use tokio_util::sync::CancellationToken;

/// The remote end of a connection. Each request has it as an extension.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Remote address of the connection; behind a proxy, the proxy's.
    pub address: SocketAddr,
    /// Aborts the connection when it is cancelled.
    pub abort: Arc<CancellationToken>,
}
