//! The connection of an event stream.

use axum::{extract::FromRequestParts, http::request::Parts};

use crate::{http::state::AppState, limit::ConnectionPermit, listener::Peer, protocol::Problem};

/// The connection of an event stream, counted against the connection quota.
pub(in crate::http) struct StreamConnection {
    pub(in crate::http) permit: ConnectionPermit,
    pub(in crate::http) peer: Option<Peer>,
}

impl FromRequestParts<AppState> for StreamConnection {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, Problem> {
        let peer = parts.extensions.get::<Peer>().cloned();
        let address = state.client_addresses.resolve(peer.as_ref(), &parts.headers);
        Ok(Self { permit: state.connection_quota.acquire(address)?, peer })
    }
}
