//! Origins whose pages may call the API and connect to Socket.IO.

use std::str::FromStr;

/// The allowed origins: exact ones, subdomain wildcards (`https://*.example.com`) or `*`.
#[derive(Debug, Clone, Default)]
pub struct AllowedOrigins(Vec<OriginPattern>);

#[derive(Debug, Clone)]
enum OriginPattern {
    Any,
    Exact(String),
    /// The text before and after the `*`.
    Subdomains {
        scheme: String,
        domain: String,
    },
}

/// The text is not an origin.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a valid origin: use https://app.example.com, https://*.example.com or *")]
pub struct OriginError(String);

impl AllowedOrigins {
    /// Whether a page of `origin` may call the API.
    #[must_use]
    pub fn allows(&self, origin: &str) -> bool {
        self.0.iter().any(|pattern| match pattern {
            OriginPattern::Any => true,
            OriginPattern::Exact(exact) => exact == origin,
            OriginPattern::Subdomains { scheme, domain } => {
                let host = origin.strip_prefix(scheme.as_str());
                host.and_then(|host| host.strip_suffix(domain.as_str()))
                    .is_some_and(|label| !label.is_empty() && !label.contains(['/', ':', '@']))
            }
        })
    }
}

impl FromStr for AllowedOrigins {
    type Err = OriginError;

    fn from_str(text: &str) -> Result<Self, OriginError> {
        let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
        origins.map(parse_pattern).collect::<Result<_, _>>().map(Self)
    }
}

fn parse_pattern(origin: &str) -> Result<OriginPattern, OriginError> {
    let invalid = || OriginError(origin.to_owned());
    // Browsers send origins in lower case.
    let origin = origin.to_ascii_lowercase();
    if origin == "*" {
        return Ok(OriginPattern::Any);
    }
    let (scheme, host) = origin.split_once("://").ok_or_else(invalid)?;
    if scheme.is_empty() || host.is_empty() || host.contains(['/', '?', '#', '@']) {
        return Err(invalid());
    }
    match host.strip_prefix('*') {
        Some(domain) if domain.starts_with('.') && !domain.contains('*') => {
            Ok(OriginPattern::Subdomains { scheme: format!("{scheme}://"), domain: domain.into() })
        }
        None if !host.contains('*') => Ok(OriginPattern::Exact(origin)),
        _ => Err(invalid()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_match_exactly_or_as_subdomains_of_a_wildcard() {
        let origins = "https://app.example.com, https://*.example.org, https://*.Example.NET";
        let origins: AllowedOrigins = origins.parse().unwrap();
        for (origin, allowed) in [
            ("https://app.example.com", true),
            ("http://app.example.com", false),
            ("https://app.example.com.evil.net", false),
            ("https://a.example.org", true),
            ("https://example.org", false),
            ("https://evil.net/.example.org", false),
            ("https://a.example.net", true),
        ] {
            assert_eq!(origins.allows(origin), allowed, "{origin}");
        }
        for bad in ["app.example.com", "https://", "https://*", "https://a.*.com", "https://a/b"] {
            assert!(bad.parse::<AllowedOrigins>().is_err(), "{bad}");
        }
    }
}
