//! Where a request comes from.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use http::HeaderMap;

const FORWARDED: &str = "x-forwarded-for";

/// The address of a client, as far as it can be told; of IPv6 the /64 network, since whoever has one
/// address has the whole of that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ClientAddress(IpAddr);

impl ClientAddress {
    /// The address that is `hops` from the right in `X-Forwarded-For`, each proxy having put in whom it
    /// heard; everything further left is the client's own word. Without proxies, that of the `peer`.
    pub(super) fn of(peer: Option<IpAddr>, headers: &HeaderMap, hops: usize) -> Self {
        let lines = headers.get_all(FORWARDED).iter().filter_map(|line| line.to_str().ok());
        let entries: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let vouched = entries.len() - hops.min(entries.len());
        let told = entries.get(vouched).and_then(|entry| parse(entry));
        Self(network(told.or(peer).unwrap_or(Ipv6Addr::UNSPECIFIED.into())))
    }
}

/// Some proxies tell the port, too.
fn parse(entry: &str) -> Option<IpAddr> {
    let bare = entry.trim_start_matches('[').trim_end_matches(']');
    bare.parse().ok().or_else(|| Some(entry.parse::<SocketAddr>().ok()?.ip()))
}

fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & (!0 << 64)).into(),
        v4 @ IpAddr::V4(_) => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwarded_addresses_are_counted_from_the_right() {
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
            let headers = lines.iter().map(|line| (FORWARDED.parse().unwrap(), line.parse().unwrap()));
            let found = ClientAddress::of("9.9.9.9".parse().ok(), &headers.collect(), hops);
            assert_eq!(found, ClientAddress(expected.parse().unwrap()), "{hops} hops, {lines:?}");
        }
    }
}
