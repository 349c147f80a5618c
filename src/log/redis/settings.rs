//! Where Redis is and what is asked of it.

use std::{fmt, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo};

use super::keys::RedisPrefix;

/// Where Redis is and what is asked of it.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// Where it is.
    pub address: RedisAddress,
    /// What every key of this deployment begins with.
    pub prefix: RedisPrefix,
    /// Replicas that must have an append before it counts as done.
    pub wait_replicas: usize,
    /// How long they may take.
    pub wait: Duration,
}

/// A parsed `REDIS_URL`. It holds a password, so it shows nothing but the host.
#[derive(Clone)]
pub struct RedisAddress(ConnectionInfo);

/// Not an address of Redis. The text is not repeated: it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be redis://[user:password@]host[:port][/database], or rediss:// for TLS")]
pub struct RedisAddressError;

impl RedisAddress {
    /// Reads a URL. With `rediss` the server's certificate is checked unless `any_certificate`: nothing
    /// in the URL itself can switch that off.
    ///
    /// # Errors
    /// When it is no such URL.
    pub fn parse(url: &str, any_certificate: bool) -> Result<Self, RedisAddressError> {
        let known = ["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme));
        if !known || url.contains('#') {
            return Err(RedisAddressError);
        }
        let info = url.into_connection_info().map_err(|_| RedisAddressError)?;
        let address = match info.addr().clone() {
            ConnectionAddr::TcpTls { host, port, tls_params, .. } => {
                ConnectionAddr::TcpTls { host, port, insecure: any_certificate, tls_params }
            }
            address => address,
        };
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        Ok(Self(info.set_addr(address).set_tcp_settings(tcp)))
    }

    pub(super) fn info(&self) -> ConnectionInfo {
        self.0.clone()
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.addr())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trap_29_nothing_in_the_url_makes_tls_accept_any_certificate() {
        let insecure = |url, any| match RedisAddress::parse(url, any).unwrap().0.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => *insecure,
            other => panic!("{other}"),
        };
        assert!(!insecure("rediss://:secret@example.com:6380", false));
        assert!(insecure("rediss://:secret@example.com:6380", true));
        assert!(RedisAddress::parse("rediss://example.com/#insecure", false).is_err());
    }

    #[test]
    fn other_addresses_are_refused() {
        for bad in
            ["", "localhost:6379", "http://localhost", "unix:///tmp/x", "redis://", "redis://h/notanumber"]
        {
            assert_eq!(RedisAddress::parse(bad, false).err(), Some(RedisAddressError), "{bad}");
        }
    }

    #[test]
    fn the_password_is_not_shown() {
        let address = RedisAddress::parse("redis://:secret@example.com:6379/1", false).unwrap();
        assert_eq!(format!("{address:?}"), "example.com:6379");
    }
}
