//! The names that the server gives to uploads.
//!
//! `0{12 hex digits of 2^48-1-unix milliseconds}-{20 hex digits}.{extension}`: S3 lists keys in
//! ascending order, so inverted time puts the newest first. Of the 20 digits, six tell apart what is named
//! in the same millisecond; fourteen are sealed with a key: the size that was granted, and the proof that
//! this deployment issued the name, whole as it stands, for this feed. So a grant can be renewed without
//! anything being kept of it.

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

const INVERTED_FROM: u64 = (1 << 48) - 1;
/// Bits that tell names of the same millisecond apart.
const NUMBER_BITS: u32 = 24;
/// Bits of what is sealed.
const SEALED_BITS: u32 = 56;
/// Bits of the size: S3 takes no more than 5 GiB in one PUT. The rest of what is sealed is the proof.
const SIZE_BITS: u32 = 33;
const MAX_SIZE: u64 = (1 << SIZE_BITS) - 1;
/// Digits up to what is sealed: `0`, the time, `-`, the number.
const STEM: usize = 1 + 12 + 1 + NUMBER_BITS as usize / 4;
/// How far the clocks of a deployment's processes may lie apart.
const CLOCKS: Duration = Duration::from_mins(5);
const MAX_EXTENSION: usize = 8;

/// The key of the proof in issued names.
#[derive(Clone)]
pub struct NameSecret {
    mac: Hmac<Sha256>,
    /// Counts the names of this process: by it no two of them are the same.
    next: Arc<AtomicU32>,
}

impl NameSecret {
    /// Derives the key from any secret bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mut mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(b"photoshare issued names\0");
        // Begun anywhere: several processes name at the same time.
        let first = getrandom::u32().expect("the system has randomness");
        Self { mac, next: Arc::new(AtomicU32::new(first)) }
    }

    /// A key of this process alone: what it proves is forgotten with it.
    #[must_use]
    pub fn random() -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the system has randomness");
        Self::new(&secret)
    }

    /// A number that no other name of this process and of that `time` has, and that tells nothing.
    fn number(&self, feed: &FeedId, time: &str) -> u64 {
        let next = u64::from(self.next.fetch_add(1, Ordering::Relaxed));
        low(next ^ self.hash(feed, time, "", 0), NUMBER_BITS)
    }

    /// Seals `value` for the name of that `stem` and `extension`, or opens it: it is its own inverse.
    fn seal(&self, feed: &FeedId, stem: &str, extension: &str, value: u64) -> u64 {
        value ^ low(self.hash(feed, stem, extension, 0), SEALED_BITS)
    }

    /// Fills the bits above the size.
    fn proof(&self, feed: &FeedId, stem: &str, extension: &str, size: u64) -> u64 {
        low(self.hash(feed, stem, extension, size + 1), SEALED_BITS - SIZE_BITS) << SIZE_BITS
    }

    fn hash(&self, feed: &FeedId, stem: &str, extension: &str, about: u64) -> u64 {
        let mut mac = self.mac.clone();
        // None of the three holds a slash.
        mac.update(format!("{feed}/{stem}/{extension}/").as_bytes());
        mac.update(&about.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        hash.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
}

fn low(value: u64, bits: u32) -> u64 {
    value & (u64::MAX >> (u64::BITS - bits))
}

/// A new name in `feed` for an object of `content_type` and `size` bytes (0 where it is not known yet).
#[must_use]
pub fn issue_name(
    secret: &NameSecret,
    feed: &FeedId,
    content_type: &str,
    size: u64,
    now: Timestamp,
) -> String {
    let millis = u64::try_from(now.as_millisecond()).unwrap_or(0);
    let time = format!("0{:012x}", INVERTED_FROM.saturating_sub(millis));
    let stem = format!("{time}-{:06x}", secret.number(feed, &time));
    let (size, extension) = (size.min(MAX_SIZE), extension(content_type));
    let value = secret.proof(feed, &stem, &extension, size) | size;
    format!("{stem}{:014x}.{extension}", secret.seal(feed, &stem, &extension, value))
}

/// The size that `name` was issued for; `None` when this deployment did not issue it for `feed`, or not
/// yet: nobody finds by trying a name that stands before all others for long.
#[must_use]
pub fn issued_size(secret: &NameSecret, feed: &FeedId, name: &str, now: Timestamp) -> Option<u64> {
    let (digits, extension) = name.split_once('.')?;
    let (stem, sealed) = digits.split_at_checked(STEM)?;
    let (time, number) = stem.strip_prefix('0')?.split_once('-')?;
    let extends = (1..=MAX_EXTENSION).contains(&extension.len())
        && extension.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let [time, _, sealed] = [(time, 12), (number, 6), (sealed, 14)].map(|(text, digits)| hex(text, digits));
    let begun = i64::try_from(INVERTED_FROM - time?).ok()?;
    let opened = secret.seal(feed, stem, extension, sealed?);
    let size = opened & MAX_SIZE;
    let proved = opened & !MAX_SIZE == secret.proof(feed, stem, extension, size);
    let past = Timestamp::from_millisecond(begun).is_ok_and(|begun| begun <= now + CLOCKS);
    (extends && proved && past).then_some(size)
}

/// A number of so many digits, in lower case.
fn hex(text: &str, digits: usize) -> Option<u64> {
    let fits = text.len() == digits && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    u64::from_str_radix(text, 16).ok().filter(|_| fits)
}

/// Whether an object of `content_type` may be stored under an issued `name`: its extension says so.
#[must_use]
pub fn name_fits(name: &str, content_type: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, given)| given == extension(content_type))
}

/// The file extension for a media type: the known ones, else the subtype's own letters.
fn extension(content_type: &str) -> String {
    let subtype = content_type.split_once('/').map_or("", |(_, subtype)| subtype);
    match subtype {
        "jpeg" => "jpg".into(),
        _ if (1..=MAX_EXTENSION).contains(&subtype.len())
            && subtype.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit()) =>
        {
            subtype.into()
        }
        _ => "bin".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(id: &str) -> FeedId {
        FeedId::parse(id).unwrap()
    }

    #[test]
    fn newer_names_sort_first() {
        let secret = NameSecret::new(b"s");
        let older = issue_name(&secret, &feed("a"), "image/jpeg", 5, "2026-11-22T00:00:00Z".parse().unwrap());
        let newer =
            issue_name(&secret, &feed("a"), "image/jpeg", 5, "2026-11-22T00:00:00.001Z".parse().unwrap());
        assert!(newer < older, "{newer} {older}");
    }

    #[test]
    fn names_have_the_shape_of_the_contract() {
        let name = issue_name(&NameSecret::new(b"s"), &feed("a"), "image/jpeg", 5, Timestamp::now());
        let (stem, ext) = name.split_once('.').unwrap();
        let (time, digits) = stem.split_once('-').unwrap();
        assert_eq!((time.len(), digits.len(), ext), (13, 20, "jpg"));
        assert!(time.starts_with('0'));
        assert!(!format!("{time}{digits}").contains(|c: char| !matches!(c, '0'..='9' | 'a'..='f')));
    }

    #[test]
    fn only_our_own_names_of_that_feed_are_known_again() {
        let (secret, now) = (NameSecret::new(b"s"), Timestamp::now());
        let name = issue_name(&secret, &feed("a"), "image/png", 52_428_800, now);
        assert_eq!(issued_size(&secret, &feed("a"), &name, now), Some(52_428_800));
        assert_eq!(issued_size(&secret, &feed("b"), &name, now), None);
        assert_eq!(issued_size(&NameSecret::new(b"t"), &feed("a"), &name, now), None);
        for foreign in ["", "a.jpg", "é", &name[..30], &name.replace('-', "_"), &name.to_uppercase()] {
            assert_eq!(issued_size(&secret, &feed("a"), foreign, now), None, "{foreign}");
        }
    }

    #[test]
    fn trap_16_a_name_that_was_altered_is_not_ours() {
        let (secret, now) = (NameSecret::new(b"s"), Timestamp::now());
        let name = issue_name(&secret, &feed("a"), "image/jpeg", 5, now);
        let (digits, _) = name.split_once('.').unwrap();
        for ending in ["png", "jpg.jpg", "my/own.jpg", "", "JPG", "jpg/x.jpg"] {
            let altered = format!("{digits}.{ending}");
            assert_eq!(issued_size(&secret, &feed("a"), &altered, now), None, "{altered}");
        }
        assert_eq!(issued_size(&secret, &feed("a"), &format!("0{:012x}{}", 0, &name[13..]), now), None);
    }

    #[test]
    fn a_name_of_the_future_is_not_ours() {
        let (secret, now) = (NameSecret::new(b"s"), Timestamp::now());
        for (ahead, known) in [(Duration::from_mins(4), true), (Duration::from_mins(6), false)] {
            let name = issue_name(&secret, &feed("a"), "image/jpeg", 5, now + ahead);
            assert_eq!(issued_size(&secret, &feed("a"), &name, now).is_some(), known, "{ahead:?}");
        }
    }

    #[test]
    fn no_two_names_of_a_millisecond_are_the_same() {
        let (secret, now) = (NameSecret::new(b"s"), Timestamp::now());
        let names = (0..10_000).map(|_| issue_name(&secret, &feed("a"), "image/jpeg", 5, now));
        let numbers: std::collections::HashSet<_> = names.map(|name| name[..STEM].to_owned()).collect();
        assert_eq!(numbers.len(), 10_000);
    }

    #[test]
    fn a_name_fits_the_type_that_it_was_issued_for() {
        let name = issue_name(&NameSecret::new(b"s"), &feed("a"), "image/jpeg", 5, Timestamp::now());
        for (content_type, fits) in [("image/jpeg", true), ("image/png", false), ("", false)] {
            assert_eq!(name_fits(&name, content_type), fits, "{content_type}");
        }
    }

    #[test]
    fn nothing_a_client_typed_becomes_an_extension() {
        for (content_type, expected) in
            [("image/heic", "heic"), ("image/x-../y", "bin"), ("", "bin"), ("image/svg+xml", "bin")]
        {
            assert_eq!(extension(content_type), expected);
        }
    }
}
