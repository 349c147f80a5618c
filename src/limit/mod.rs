//! How often somebody may ask, and how many may be connected.
//!
//! A caller is the token's subject or else an address. Limits are of this process alone: with several,
//! each grants its own.

mod address;
mod places;
mod rate;

use std::{num::NonZeroUsize, sync::Arc, time::Duration};

use http::HeaderMap;

use crate::{auth::Access, listener::Peer};
use places::Places;
use rate::PerCaller;

pub use address::ClientAddress;
pub use places::{NoPlace, Place};
pub use rate::{JoinRate, Rate};

/// What is limited, and how much.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Uploads granted to one caller.
    pub grants: Option<Rate>,
    /// Other requests of one caller.
    pub requests: Option<Rate>,
    /// Joins of one connection.
    pub joins: Option<Rate>,
    /// Connections to this process.
    pub connections: usize,
    /// Connections of one address.
    pub connections_per_address: Option<NonZeroUsize>,
    /// Proxies in front of us whose word on addresses counts.
    pub trusted_proxy_hops: usize,
}

/// Who asks, as far as limits are concerned.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Caller {
    /// The subject of a token.
    Subject(String),
    /// Whoever is at this address.
    Address(ClientAddress),
}

/// Too often.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{what}: at most {rate}; try again in {} s", .retry_after.as_secs())]
pub struct TooMany {
    /// What of.
    pub what: &'static str,
    /// How much there may be.
    pub rate: Rate,
    /// When it will do, in whole seconds.
    pub retry_after: Duration,
}

/// Keeps the limits.
#[derive(Debug)]
pub struct Limiter {
    grants: Option<PerCaller>,
    requests: Option<PerCaller>,
    joins: Option<Rate>,
    places: Arc<Places>,
    trusted_proxy_hops: usize,
}

impl Limiter {
    /// Keeps these limits.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            grants: settings.grants.map(|rate| PerCaller::new("uploads granted to one caller", rate)),
            requests: settings.requests.map(|rate| PerCaller::new("requests of one caller", rate)),
            joins: settings.joins,
            places: Arc::new(Places::new(settings.connections, settings.connections_per_address)),
            trusted_proxy_hops: settings.trusted_proxy_hops,
        }
    }

    /// Where a request comes from.
    #[must_use]
    pub fn address(&self, peer: Option<&Peer>, headers: &HeaderMap) -> ClientAddress {
        ClientAddress::of(peer.map(|peer| peer.address.ip()), headers, self.trusted_proxy_hops)
    }

    /// Counts one request.
    ///
    /// # Errors
    /// When there were too many.
    pub fn request(&self, caller: &Caller) -> Result<(), TooMany> {
        self.requests.as_ref().map_or(Ok(()), |requests| requests.count(caller, 1))
    }

    /// Counts uploads that are asked for together: all of them or none. More than ever fit at once cost
    /// as much as fits.
    ///
    /// # Errors
    /// When there were too many.
    pub fn grants(&self, caller: &Caller, uploads: usize) -> Result<(), TooMany> {
        self.grants.as_ref().map_or(Ok(()), |grants| grants.count(caller, uploads))
    }

    /// What limits the joins of one connection.
    #[must_use]
    pub fn joins(&self) -> JoinRate {
        JoinRate::new(self.joins)
    }

    /// A place for one more connection, given back when it is dropped.
    ///
    /// # Errors
    /// When there is none left.
    pub fn place(&self, address: ClientAddress) -> Result<Place, NoPlace> {
        self.places.take(address)
    }

    /// Forgets callers that have all their allowance again. To be called now and then.
    pub fn forget_idle(&self) {
        for limit in [&self.grants, &self.requests].into_iter().flatten() {
            limit.forget_idle();
        }
    }
}

impl Caller {
    /// The bearer of `access`, who calls from `address`.
    #[must_use]
    pub fn of(access: &Access, address: ClientAddress) -> Self {
        access.subject.clone().map_or(Self::Address(address), Self::Subject)
    }
}
