//! Object names that the server issues for uploads.
//!
//! ```text
//! 0{time}-{serial}{sealed}.{extension}
//!   │      │       └ 14 hex digits: 33 bits of granted size and 23 bits of proof, encrypted
//!   │      └ 6 hex digits: distinguish the names of one millisecond
//!   └ 12 hex digits: 2^48-1 minus the Unix time in milliseconds
//! ```
//!
//! S3 lists keys in ascending order, so the inverted time lists the newest photo first. The proof is a
//! truncated HMAC over the feed, every other part of the name, and the size. With it any process can renew
//! a grant, and no grant has to be stored.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use super::FeedId;

const MAX_UNIX_MILLIS: u64 = (1 << 48) - 1;
const SERIAL_BITS: u32 = 24;
const SEALED_BITS: u32 = 56;
/// Enough for 5 GiB, the limit of S3 for one PUT. The rest of the sealed bits are the proof.
const SIZE_BITS: u32 = 33;
const MAX_SIZE: u64 = (1 << SIZE_BITS) - 1;
/// The length of the part before the sealed digits: `0`, the time, `-`, the serial.
const STEM_LEN: usize = 1 + 12 + 1 + SERIAL_BITS as usize / 4;
/// The tolerated clock difference between the processes of a deployment.
const MAX_CLOCK_SKEW: Duration = Duration::from_mins(5);
const MAX_EXTENSION_LEN: usize = 8;

/// The secret key of issued names.
#[derive(Clone)]
pub struct NameSecret {
    mac: Hmac<Sha256>,
    /// Shared by the clones, so that no two names of this process have the same serial.
    next_serial: Arc<AtomicU32>,
}

impl NameSecret {
    /// Derives the key from a secret of any length.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mut mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(b"photoshare issued names\0");
        // A random start: processes that share the secret issue names at the same time.
        let first = getrandom::u32().expect("the system has randomness");
        Self { mac, next_serial: Arc::new(AtomicU32::new(first)) }
    }

    /// A random key: names that were issued with it can't be verified after a restart.
    #[must_use]
    pub fn random() -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the system has randomness");
        Self::new(&secret)
    }

    /// Returns a serial that no other name of this process with the same `time` has. It is masked, so that
    /// it does not reveal how many names were issued.
    fn issue_serial(&self, feed: &FeedId, time: &str) -> u64 {
        let next = u64::from(self.next_serial.fetch_add(1, Ordering::Relaxed));
        low_bits(next ^ self.compute_hash(feed, time, "", 0), SERIAL_BITS)
    }

    /// Encrypts `value` for a name, or decrypts it: XOR with a hash of the other parts is its own inverse.
    fn apply_seal(&self, feed: &FeedId, stem: &str, extension: &str, value: u64) -> u64 {
        value ^ low_bits(self.compute_hash(feed, stem, extension, 0), SEALED_BITS)
    }

    /// Computes the proof, shifted to the bits above the size.
    fn compute_proof(&self, feed: &FeedId, stem: &str, extension: &str, size: u64) -> u64 {
        // `size + 1`, since the seal uses the hash for 0.
        low_bits(self.compute_hash(feed, stem, extension, size + 1), SEALED_BITS - SIZE_BITS) << SIZE_BITS
    }

    fn compute_hash(&self, feed: &FeedId, stem: &str, extension: &str, input: u64) -> u64 {
        let mut mac = self.mac.clone();
        // None of the three contains a slash, so the concatenation is unambiguous.
        mac.update(format!("{feed}/{stem}/{extension}/").as_bytes());
        mac.update(&input.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        hash.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

fn low_bits(value: u64, bits: u32) -> u64 {
    value & (u64::MAX >> (u64::BITS - bits))
}

/// Issues a new name in `feed` for an object of `content_type` and `size` bytes (0 if the size is not
/// known yet).
#[must_use]
pub fn issue_name(
    secret: &NameSecret,
    feed: &FeedId,
    content_type: &str,
    size: u64,
    now: Timestamp,
) -> String {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let time = format!("0{:012x}", MAX_UNIX_MILLIS.saturating_sub(millis));
    let stem = format!("{time}-{:06x}", secret.issue_serial(feed, &time));
    let (size, extension) = (size.min(MAX_SIZE), extension_for(content_type));
    let value = secret.compute_proof(feed, &stem, &extension, size) | size;
    format!("{stem}{:014x}.{extension}", secret.apply_seal(feed, &stem, &extension, value))
}

/// Returns the size that `name` was issued for; `None` when this deployment did not issue it for `feed`.
///
/// A name with a time in the future is rejected, even with a valid proof: a proof that was found by
/// guessing must not place a photo before all others for years.
#[must_use]
pub fn verify_issued_name(secret: &NameSecret, feed: &FeedId, name: &str, now: Timestamp) -> Option<u64> {
    let (digits, extension) = name.split_once('.')?;
    let (stem, sealed) = digits.split_at_checked(STEM_LEN)?;
    let (time, serial) = stem.strip_prefix('0')?.split_once('-')?;
    let (inverted_millis, _, sealed) = (parse_hex(time, 12)?, parse_hex(serial, 6)?, parse_hex(sealed, 14)?);
    let issued_at =
        Timestamp::from_millisecond(i64::try_from(MAX_UNIX_MILLIS - inverted_millis).ok()?).ok()?;
    let value = secret.apply_seal(feed, stem, extension, sealed);
    let size = value & MAX_SIZE;
    let is_proven = value & !MAX_SIZE == secret.compute_proof(feed, stem, extension, size);
    (is_valid_extension(extension) && is_proven && issued_at <= now + MAX_CLOCK_SKEW).then_some(size)
}

/// Parses exactly `digits` lower-case hexadecimal digits.
fn parse_hex(text: &str, digits: usize) -> Option<u64> {
    let is_valid = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| is_valid)
}

/// Whether the extension of an issued `name` is that of `content_type`.
#[must_use]
pub fn name_matches_type(name: &str, content_type: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, extension)| extension == extension_for(content_type))
}

/// The file extension for a media type: its subtype where that is a plain word, else `bin`.
fn extension_for(content_type: &str) -> String {
    match content_type.split_once('/').map_or("", |(_, subtype)| subtype) {
        "jpeg" => "jpg".into(),
        subtype if is_valid_extension(subtype) => subtype.into(),
        _ => "bin".into(),
    }
}

fn is_valid_extension(text: &str) -> bool {
    (1..=MAX_EXTENSION_LEN).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::feed;

    #[test]
    fn newer_names_sort_first() {
        let secret = NameSecret::new(b"s");
        let older = issue_name(&secret, &feed("a"), "image/jpeg", 5, "2026-11-22T00:00:00Z".parse().unwrap());
        let newer =
            issue_name(&secret, &feed("a"), "image/jpeg", 5, "2026-11-22T00:00:00.001Z".parse().unwrap());
        assert!(newer < older, "{newer} {older}");
    }

    #[test]
    fn a_name_has_the_documented_format() {
        let name = issue_name(&NameSecret::new(b"s"), &feed("a"), "image/jpeg", 5, Timestamp::now());
        let (stem, ext) = name.split_once('.').unwrap();
        let (time, digits) = stem.split_once('-').unwrap();
        assert_eq!((time.len(), digits.len(), ext), (13, 20, "jpg"));
        assert!(time.starts_with('0'));
        assert!(!format!("{time}{digits}").contains(|c: char| !matches!(c, '0'..='9' | 'a'..='f')));
    }

    #[test]
    fn only_names_issued_with_this_secret_for_this_feed_are_verified() {
        let (secret, now) = (NameSecret::new(b"s"), Timestamp::now());
        let name = issue_name(&secret, &feed("a"), "image/png", 52_428_800, now);
        assert_eq!(verify_issued_name(&secret, &feed("a"), &name, now), Some(52_428_800));
        assert_eq!(verify_issued_name(&secret, &feed("b"), &name, now), None);
        assert_eq!(verify_issued_name(&NameSecret::new(b"t"), &feed("a"), &name, now), None);
        for invalid in ["", "a.jpg", "é", &name[..30], &name.replace('-', "_"), &name.to_uppercase()] {
            assert_eq!(verify_issued_name(&secret, &feed("a"), invalid, now), None, "{invalid}");
        }
    }

    #[test]
    fn an_altered_name_is_not_verified() {
        let (secret, now) = (NameSecret::new(b"s"), Timestamp::now());
        let name = issue_name(&secret, &feed("a"), "image/jpeg", 5, now);
        let (digits, _) = name.split_once('.').unwrap();
        for ending in ["png", "jpg.jpg", "my/own.jpg", "", "JPG", "jpg/x.jpg"] {
            let altered = format!("{digits}.{ending}");
            assert_eq!(verify_issued_name(&secret, &feed("a"), &altered, now), None, "{altered}");
        }
        assert_eq!(
            verify_issued_name(&secret, &feed("a"), &format!("0{:012x}{}", 0, &name[13..]), now),
            None
        );
    }

    #[test]
    fn a_name_from_the_future_is_not_verified() {
        let (secret, now) = (NameSecret::new(b"s"), Timestamp::now());
        for (ahead, verified) in [(Duration::from_mins(4), true), (Duration::from_mins(6), false)] {
            let name = issue_name(&secret, &feed("a"), "image/jpeg", 5, now + ahead);
            assert_eq!(verify_issued_name(&secret, &feed("a"), &name, now).is_some(), verified, "{ahead:?}");
        }
    }

    #[test]
    fn names_of_the_same_millisecond_are_distinct() {
        let (secret, now) = (NameSecret::new(b"s"), Timestamp::now());
        let names = (0..10_000).map(|_| issue_name(&secret, &feed("a"), "image/jpeg", 5, now));
        let stems: std::collections::HashSet<_> = names.map(|name| name[..STEM_LEN].to_owned()).collect();
        assert_eq!(stems.len(), 10_000);
    }

    #[test]
    fn a_name_matches_only_the_type_that_it_was_issued_for() {
        let name = issue_name(&NameSecret::new(b"s"), &feed("a"), "image/jpeg", 5, Timestamp::now());
        for (content_type, expected) in [("image/jpeg", true), ("image/png", false), ("", false)] {
            assert_eq!(name_matches_type(&name, content_type), expected, "{content_type}");
        }
    }

    #[test]
    fn an_extension_contains_no_special_characters() {
        for (content_type, expected) in
            [("image/heic", "heic"), ("image/x-../y", "bin"), ("", "bin"), ("image/svg+xml", "bin")]
        {
            assert_eq!(extension_for(content_type), expected);
        }
    }
}
