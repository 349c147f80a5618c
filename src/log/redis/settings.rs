//! How the log reaches and uses Redis.

use std::{fmt, time::Duration};

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError, aio::MultiplexedConnection};

use super::{keys::RedisKeyPrefix, topology::Topology};

/// How the log reaches and uses Redis.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `REDIS_URL`.
    pub address: RedisAddress,
    /// What every key of this deployment begins with.
    pub key_prefix: RedisKeyPrefix,
    /// Replicas that must confirm an append.
    pub wait_replicas: usize,
    /// How long they may take to.
    pub wait_timeout: Duration,
}

/// A parsed `REDIS_URL`. It may hold a password: its `Debug` shows only host and port.
#[derive(Clone)]
pub struct RedisAddress(ConnectionInfo);

/// Not the URL of a Redis. The text is not repeated, since it may hold a password.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be redis://[user:password@]host[:port][/database], or rediss:// for TLS")]
pub struct RedisAddressError;

impl RedisSettings {
    /// Opens a connection to the server that holds `shard`.
    ///
    /// # Errors
    /// When no server can be reached, or authentication or TLS fails.
    pub(crate) async fn connect_to_shard(
        &self,
        shard: u16,
        response_timeout: Duration,
    ) -> Result<MultiplexedConnection, RedisError> {
        let topology = Topology::new(self.address.connection_info());
        Ok(topology.connect_to_shard(shard, response_timeout).await?.connection)
    }
}

impl RedisAddress {
    /// Parses a URL. With `rediss` the server's certificate is verified unless `any_certificate` is set;
    /// nothing in the URL itself disables that.
    ///
    /// # Errors
    /// When `url` has another scheme, no host, an invalid port or a fragment.
    pub fn parse(url: &str, any_certificate: bool) -> Result<Self, RedisAddressError> {
        let is_supported = ["redis://", "rediss://"].iter().any(|scheme| url.starts_with(scheme));
        if !is_supported || url.contains('#') {
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

    pub(super) fn connection_info(&self) -> ConnectionInfo {
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
    fn nothing_in_the_url_disables_the_verification_of_certificates() {
        let insecure = |url, any| match RedisAddress::parse(url, any).unwrap().0.addr() {
            ConnectionAddr::TcpTls { insecure, .. } => *insecure,
            other => panic!("{other}"),
        };
        assert!(!insecure("rediss://:secret@example.com:6380", false));
        assert!(insecure("rediss://:secret@example.com:6380", true));
        assert!(RedisAddress::parse("rediss://example.com/#insecure", false).is_err());
    }

    #[test]
    fn other_urls_are_rejected() {
        for invalid in
            ["", "localhost:6379", "http://localhost", "unix:///tmp/x", "redis://", "redis://h/notanumber"]
        {
            assert_eq!(RedisAddress::parse(invalid, false).err(), Some(RedisAddressError), "{invalid}");
        }
    }

    #[test]
    fn debug_output_does_not_contain_the_password() {
        let address = RedisAddress::parse("redis://:secret@example.com:6379/1", false).unwrap();
        assert_eq!(format!("{address:?}"), "example.com:6379");
    }
}
