//! The limit on file descriptors, and the number of connections that follows from it.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// A quarter of the descriptors is reserved, within these bounds, and half of a very low limit. The reserve is
/// for what the process opens itself: S3, SQS, Redis, the key set, the files of the embedded S3, and the
/// connections above the limit.
const MIN_RESERVED: u64 = 64;
const MAX_RESERVED: u64 = 1024;
/// What macOS accepts where the hard limit is "unlimited".
const MACOS_OPEN_MAX: u64 = 10_240;

/// Raises the soft limit on file descriptors to the hard limit. Returns the limit that is then in effect.
#[must_use]
pub fn raise_descriptor_limit() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    for current in [limit.maximum, Some(MACOS_OPEN_MAX)] {
        if is_higher(current, limit.current)
            && setrlimit(Resource::Nofile, Rlimit { current, maximum: limit.maximum }).is_ok()
        {
            break;
        }
    }
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Number of connections that are accepted with `descriptors` file descriptors, and at most `wanted`.
#[must_use]
pub fn max_connections(descriptors: u64, wanted: usize) -> usize {
    let reserved = (descriptors / 4).clamp(MIN_RESERVED, MAX_RESERVED).min(descriptors / 2);
    let free = usize::try_from(descriptors.saturating_sub(reserved)).unwrap_or(usize::MAX);
    free.clamp(1, wanted.max(1))
}

/// Whether the limit `a` is above `b`. `None` is no limit.
fn is_higher(a: Option<u64>, b: Option<u64>) -> bool {
    a.unwrap_or(u64::MAX) > b.unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_for_the_process_itself() {
        for (descriptors, wanted, connections) in [
            (1, 1000, 1),
            (64, 1000, 32),
            (128, 1000, 64),
            (256, 1000, 192),
            (1024, 1000, 768),
            (20_000, 100_000, 18_976),
            (u64::MAX, 101_024, 101_024),
        ] {
            assert_eq!(max_connections(descriptors, wanted), connections, "{descriptors} descriptors");
        }
    }

    #[test]
    fn no_limit_is_the_highest() {
        assert!(is_higher(None, Some(1)));
        assert!(is_higher(Some(2), Some(1)));
        assert!(!is_higher(Some(1), Some(1)));
        assert!(!is_higher(Some(1), None));
        assert!(!is_higher(None, None));
    }
}
