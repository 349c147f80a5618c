//! The names that the server gives to uploads.
//!
//! `0{12 hex digits of 2^48-1-unix milliseconds}-{20 hex digits}.{extension}`: S3 lists keys in
//! ascending order, so inverted time puts the newest first. Of the 20 digits, eight are random; twelve are
//! sealed with a key: the size that was granted, and the proof that this deployment issued the name for
//! this feed. So a grant can be renewed without anything being kept of it.

use hmac::{Hmac, KeyInit, Mac};
use jiff::Timestamp;
use sha2::Sha256;

use super::FeedId;

const INVERTED_FROM: u64 = (1 << 48) - 1;
/// Bytes of randomness in a name.
const RANDOM: usize = 4;
/// Bytes of what is sealed.
const SEALED: usize = 6;
/// Bits of the size: S3 takes no more than 5 GiB in one PUT. The rest of what is sealed is the proof.
const SIZE_BITS: u32 = 33;
const MAX_SIZE: u64 = (1 << SIZE_BITS) - 1;

/// The key of the proof in issued names.
#[derive(Clone)]
pub struct NameSecret(Hmac<Sha256>);

impl NameSecret {
    /// Derives the key from any secret bytes.
    #[must_use]
    pub fn new(secret: &[u8]) -> Self {
        let mut mac = Hmac::new_from_slice(secret).expect("HMAC takes keys of any length");
        mac.update(b"photoshare issued names\0");
        Self(mac)
    }

    /// A key of this process alone: what it proves is forgotten with it.
    #[must_use]
    pub fn random() -> Self {
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).expect("the system has randomness");
        Self::new(&secret)
    }

    /// Seals `size` for the name that begins with `stem`, or opens what was sealed: it is its own inverse.
    fn seal(&self, feed: &FeedId, stem: &str, value: u64) -> u64 {
        value ^ (self.hash(feed, stem, 0) & (u64::MAX >> (64 - 8 * SEALED)))
    }

    /// Fills the bits above the size.
    fn proof(&self, feed: &FeedId, stem: &str, size: u64) -> u64 {
        let bits = 8 * SEALED - SIZE_BITS as usize;
        (self.hash(feed, stem, size + 1) & (u64::MAX >> (64 - bits))) << SIZE_BITS
    }

    fn hash(&self, feed: &FeedId, stem: &str, about: u64) -> u64 {
        let mut mac = self.0.clone();
        mac.update(feed.as_str().as_bytes());
        mac.update(b"/");
        mac.update(stem.as_bytes());
        mac.update(&about.to_be_bytes());
        let hash = mac.finalize().into_bytes();
        hash.iter().take(8).fold(0, |number, byte| (number << 8) | u64::from(*byte))
    }
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
    let mut random = [0; RANDOM];
    getrandom::fill(&mut random).expect("the system has randomness");
    let stem = format!("0{:012x}-{}", INVERTED_FROM.saturating_sub(millis), hex::encode(random));
    let size = size.min(MAX_SIZE);
    let sealed = secret.seal(feed, &stem, secret.proof(feed, &stem, size) | size);
    format!("{stem}{sealed:012x}.{}", extension(content_type))
}

/// The size that `name` was issued for; `None` when this deployment did not issue it for `feed`.
#[must_use]
pub fn issued_size(secret: &NameSecret, feed: &FeedId, name: &str) -> Option<u64> {
    let (stem, rest) = name.split_at_checked(1 + 12 + 1 + 2 * RANDOM)?;
    let (sealed, extension) = rest.split_at_checked(2 * SEALED)?;
    let digits = sealed.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    let opened = secret.seal(feed, stem, u64::from_str_radix(sealed, 16).ok().filter(|_| digits)?);
    let size = opened & MAX_SIZE;
    let proved = opened & !MAX_SIZE == secret.proof(feed, stem, size);
    (proved && extension.starts_with('.')).then_some(size)
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
        _ if (1..=8).contains(&subtype.len())
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
        let secret = NameSecret::new(b"s");
        let name = issue_name(&secret, &feed("a"), "image/png", 52_428_800, Timestamp::now());
        assert_eq!(issued_size(&secret, &feed("a"), &name), Some(52_428_800));
        assert_eq!(issued_size(&secret, &feed("b"), &name), None);
        assert_eq!(issued_size(&NameSecret::new(b"t"), &feed("a"), &name), None);
        for foreign in ["", "a.jpg", "é", &name[..30], &name.replace('-', "_")] {
            assert_eq!(issued_size(&secret, &feed("a"), foreign), None, "{foreign}");
        }
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
