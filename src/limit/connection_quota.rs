//! Quota of concurrent connections, in total and per client address.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, Mutex},
};

use crate::client_address::ClientAddress;

/// Counts the connections of the process and, if they are limited, of each address.
#[derive(Debug)]
pub struct ConnectionQuota {
    max_total: usize,
    max_per_address: Option<NonZeroUsize>,
    counts: Mutex<ConnectionCounts>,
}

#[derive(Debug, Default)]
struct ConnectionCounts {
    total: usize,
    /// Contains only addresses with at least one connection.
    by_address: HashMap<ClientAddress, usize>,
}

/// Permit for one connection, released on drop.
#[derive(Debug)]
pub struct ConnectionPermit {
    quota: Arc<ConnectionQuota>,
    address: ClientAddress,
}

/// The maximum number of connections is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConnectionQuotaExceeded {
    /// The process has its maximum number of connections.
    #[error("this process accepts at most {0} connections")]
    ProcessLimit(usize),
    /// The address has its maximum number of connections.
    #[error("at most {0} connections are accepted from one address")]
    AddressLimit(NonZeroUsize),
}

impl ConnectionQuota {
    /// Creates a quota of `max_total` connections, and of `max_per_address` from each address.
    #[must_use]
    pub fn new(max_total: usize, max_per_address: Option<NonZeroUsize>) -> Self {
        Self { max_total, max_per_address, counts: Mutex::default() }
    }

    /// Acquires a permit for one connection, released on drop.
    ///
    /// # Errors
    /// When the process or the address has its maximum number of connections.
    pub fn acquire(
        self: &Arc<Self>,
        address: ClientAddress,
    ) -> Result<ConnectionPermit, ConnectionQuotaExceeded> {
        let mut counts = self.counts.lock().expect("no panic while held");
        if counts.total >= self.max_total {
            return Err(ConnectionQuotaExceeded::ProcessLimit(self.max_total));
        }
        if let Some(limit) = self.max_per_address {
            let count = counts.by_address.entry(address).or_default();
            if *count >= limit.get() {
                return Err(ConnectionQuotaExceeded::AddressLimit(limit));
            }
            *count += 1;
        }
        counts.total += 1;
        record_total(counts.total);
        Ok(ConnectionPermit { quota: self.clone(), address })
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        let mut counts = self.quota.counts.lock().expect("no panic while held");
        counts.total -= 1;
        if let Some(count) = counts.by_address.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                counts.by_address.remove(&self.address);
            }
        }
        record_total(counts.total);
    }
}

fn record_total(total: usize) {
    metrics::gauge!("photoshare_connections").set(total as f64);
}

#[cfg(test)]
mod tests {
    use http::HeaderMap;

    use super::*;

    fn address(last: u8) -> ClientAddress {
        ClientAddress::resolve(Some([10, 0, 0, last].into()), &HeaderMap::new(), 0)
    }

    #[test]
    fn dropped_permits_are_released() {
        let limit = Arc::new(ConnectionQuota::new(3, NonZeroUsize::new(2)));
        let first = [(); 2].map(|()| limit.acquire(address(1)).unwrap());
        let two = NonZeroUsize::new(2).unwrap();
        assert_eq!(limit.acquire(address(1)).err(), Some(ConnectionQuotaExceeded::AddressLimit(two)));
        let second = limit.acquire(address(2)).unwrap();
        assert_eq!(limit.acquire(address(3)).err(), Some(ConnectionQuotaExceeded::ProcessLimit(3)));
        drop((first, second));
        assert!(
            limit.counts.lock().unwrap().by_address.is_empty(),
            "addresses without connections are removed"
        );
        assert!(limit.acquire(address(1)).is_ok());
    }

    #[test]
    fn addresses_are_not_counted_without_a_limit_per_address() {
        let limit = Arc::new(ConnectionQuota::new(3, None));
        let _permits = [(); 3].map(|()| limit.acquire(address(1)).unwrap());
        assert_eq!(limit.acquire(address(2)).err(), Some(ConnectionQuotaExceeded::ProcessLimit(3)));
        assert!(limit.counts.lock().unwrap().by_address.is_empty());
    }
}
