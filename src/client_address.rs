//! The client's address, behind any number of trusted proxies.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;

use crate::listener::Peer;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The address of a client; for IPv6 its /64 network, since a client usually controls the whole network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

/// Resolves client addresses behind a known number of trusted proxies.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientAddressResolver {
    /// Number of trusted proxies in front of the server that append to `X-Forwarded-For`.
    pub trusted_proxy_hops: usize,
}

impl ClientAddressResolver {
    /// The address of the client that sent a request with these `headers` over the connection of `peer`.
    #[must_use]
    pub fn resolve(self, peer: Option<&Peer>, headers: &HeaderMap) -> ClientAddress {
        ClientAddress::resolve(peer.map(|peer| peer.address.ip()), headers, self.trusted_proxy_hops)
    }
}

impl ClientAddress {
    /// Resolves the client's address from `X-Forwarded-For`, or from `peer` without trusted proxies.
    ///
    /// Each proxy appends the address of its own peer, so the result is the entry at `trusted_proxy_hops` from
    /// the right. Entries further left are set by the client and can be forged. Falls back to `peer` if that
    /// entry is not an address.
    #[must_use]
    pub fn resolve(peer: Option<IpAddr>, headers: &HeaderMap, trusted_proxy_hops: usize) -> Self {
        let lines = headers.get_all(X_FORWARDED_FOR).iter().filter_map(|line| line.to_str().ok());
        let entries: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let index = entries.len() - trusted_proxy_hops.min(entries.len());
        let forwarded = entries.get(index).and_then(|entry| parse_entry(entry));
        Self(truncate_to_network(forwarded.or(peer).unwrap_or(Ipv6Addr::UNSPECIFIED.into())))
    }
}

/// Parses an address, optionally with a port, which some proxies append.
fn parse_entry(entry: &str) -> Option<IpAddr> {
    let address = entry.trim_start_matches('[').trim_end_matches(']');
    address.parse().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()))
}

fn truncate_to_network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forwarded_address_is_counted_from_the_right() {
        for (hops, lines, expected) in [
            (0, &["1.1.1.1"][..], "9.9.9.9"),
            (1, &[], "9.9.9.9"),
            (1, &["1.1.1.1"], "1.1.1.1"),
            (1, &["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            (1, &["6.6.6.6", "1.1.1.1"], "1.1.1.1"),
            (2, &["6.6.6.6, 2.2.2.2,1.1.1.1"], "2.2.2.2"),
            (2, &["6.6.6.6, 2.2.2.2", "1.1.1.1"], "2.2.2.2"),
            (2, &["1.1.1.1"], "1.1.1.1"),
            (1, &["6.6.6.6, unknown"], "9.9.9.9"),
            (1, &["6.6.6.6, "], "9.9.9.9"),
            (1, &["1.1.1.1:4711"], "1.1.1.1"),
            (1, &["::ffff:1.1.1.1"], "1.1.1.1"),
            (1, &["2001:db8:1:2:3:4:5:6"], "2001:db8:1:2::"),
            (1, &["[2001:db8:1:2:3:4:5:6]"], "2001:db8:1:2::"),
            (1, &["[2001:db8:1:2:3:4:5:6]:4711"], "2001:db8:1:2::"),
        ] {
            let headers = lines.iter().map(|line| (X_FORWARDED_FOR.parse().unwrap(), line.parse().unwrap()));
            let found = ClientAddress::resolve("9.9.9.9".parse().ok(), &headers.collect(), hops);
            assert_eq!(found, ClientAddress(expected.parse().unwrap()), "{hops} hops, {lines:?}");
        }
    }
}
