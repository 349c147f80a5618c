//! Host check of `photoshare dev`, which runs without tokens on the machine of a developer.
//!
//! A page of another site can have its own name resolve to this machine (DNS rebinding). To the browser the
//! requests of the page then are same-origin, so that neither CORS nor the origin check applies. They still
//! carry the name of that site.

use std::net::IpAddr;

use axum::{
    Router,
    extract::{Request, State},
    http::{HeaderMap, Uri, header, uri::Authority},
    middleware::{Next, from_fn_with_state},
    response::{IntoResponse, Response},
};

use crate::protocol::{Problem, ProblemKind};

/// Hosts that requests may be sent to: IP addresses, `localhost` and its subdomains, and one more name.
#[derive(Debug, Clone, Default)]
pub struct AllowedHosts {
    public_name: Option<String>,
}

impl AllowedHosts {
    /// The hosts of a local server, which clients also reach by `public_url`.
    #[must_use]
    pub fn local(public_url: Option<&str>) -> Self {
        let authority = public_url.and_then(|url| url.parse::<Uri>().ok()?.into_parts().authority);
        Self { public_name: authority.map(|authority| normalize(authority.host())) }
    }

    fn allows(&self, uri: &Uri, headers: &HeaderMap) -> bool {
        let sent = headers.get_all(header::HOST).iter().map(|host| host.to_str().unwrap_or_default());
        let mut hosts = sent.chain(uri.authority().map(Authority::as_str));
        // No browser leaves out the host. More than one is left to the routes, if each is allowed.
        hosts.all(|host| self.allows_host(host))
    }

    fn allows_host(&self, authority: &str) -> bool {
        let Ok(authority) = authority.parse::<Authority>() else { return false };
        let host = normalize(authority.host());
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(&host);
        let is_local = host == "localhost" || host.ends_with(".localhost");
        is_local || address.parse::<IpAddr>().is_ok() || self.public_name.as_ref() == Some(&host)
    }
}

/// Without the dot that ends a fully qualified name.
fn normalize(host: &str) -> String {
    host.strip_suffix('.').unwrap_or(host).to_ascii_lowercase()
}

/// Adds the host check to `router`, if `hosts` are given.
pub(super) fn with_host_check(router: Router, hosts: Option<&AllowedHosts>) -> Router {
    match hosts {
        Some(hosts) => router.layer(from_fn_with_state(hosts.clone(), reject_other_hosts)),
        None => router,
    }
}

async fn reject_other_hosts(State(hosts): State<AllowedHosts>, request: Request, next: Next) -> Response {
    if hosts.allows(request.uri(), request.headers()) {
        return next.run(request).await;
    }
    let detail = "photoshare dev responds to localhost, to IP addresses and to the host of PUBLIC_URL only";
    Problem::new(ProblemKind::Forbidden, detail).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_other_sites_are_refused_and_addresses_pass() {
        let hosts = AllowedHosts::local(Some("https://Photos.example:8443"));
        for (sent, allowed) in [
            (&[][..], true),
            (&["localhost"], true),
            (&["LOCALHOST:3000"], true),
            (&["localhost."], true),
            (&["app.localhost:3000"], true),
            (&["127.0.0.1:3000"], true),
            (&["192.168.1.20"], true),
            (&["[::1]:3000"], true),
            (&["photos.example"], true),
            (&["photos.example:3000"], true),
            (&["evil.example"], false),
            (&["evil.example:3000"], false),
            (&["evil"], false),
            (&["localhost.evil.example"], false),
            (&["evillocalhost"], false),
            (&["127.0.0.1.evil.example"], false),
            (&["user@localhost:3000"], true),
            (&["localhost@evil.example"], false),
            (&["sub.photos.example"], false),
            (&["2130706433"], false),
            (&[""], false),
            (&["[::1"], false),
            (&["localhost", "evil.example"], false),
        ] {
            let headers = sent.iter().map(|host| (header::HOST, host.parse().unwrap())).collect();
            assert_eq!(hosts.allows(&Uri::from_static("/"), &headers), allowed, "{sent:?}");
        }
        let headers = [(header::HOST, "localhost".parse().unwrap())].into_iter().collect();
        assert!(!hosts.allows(&Uri::from_static("http://evil.example/"), &headers));
        assert!(hosts.allows(&Uri::from_static("http://localhost:3000/"), &headers));
        assert!(!AllowedHosts::local(None).allows_host("photos.example"));
    }
}
