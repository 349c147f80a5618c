//! The keys of the doctor's round trip, and the server's part in it. `photoshare doctor` stores a ping; a
//! running server that receives its event stores a pong as the acknowledgement. The doctor then need not receive
//! from that server's queue.

use aws_sdk_s3::{operation::head_object::HeadObjectError, primitives::ByteStream};

use super::{Bucket, BucketError};
use crate::feed::KeyPrefix;

const DOCTOR_FOLDER: &str = ".photoshare/doctor/";

/// An object that a doctor stores. Its key is not a valid photo key: the object is never announced or listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    stem: String,
}

impl Ping {
    /// Creates a ping with a random key.
    #[must_use]
    pub fn random(prefix: &KeyPrefix) -> Self {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the system has a source of randomness");
        Self { stem: format!("{}{DOCTOR_FOLDER}{}", prefix.as_str(), hex::encode(random)) }
    }

    /// Parses the key of a ping.
    #[must_use]
    pub fn parse(prefix: &KeyPrefix, key: &str) -> Option<Self> {
        let stem = key.strip_suffix(".ping")?;
        let id = stem.strip_prefix(prefix.as_str())?.strip_prefix(DOCTOR_FOLDER)?;
        let issued = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        issued.then(|| Self { stem: stem.to_owned() })
    }

    /// Whether `key` belongs to a ping or a pong.
    #[must_use]
    pub fn is_doctor_key(prefix: &KeyPrefix, key: &str) -> bool {
        key.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with(DOCTOR_FOLDER))
    }

    /// Key of the ping.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}.ping", self.stem)
    }

    /// Key of the pong.
    pub(crate) fn pong_key(&self) -> String {
        format!("{}.pong", self.stem)
    }
}

impl Bucket {
    /// Stores the pong, if the ping still exists: after the doctor has deleted both, nothing would delete the
    /// pong.
    ///
    /// # Errors
    /// When a call fails.
    pub async fn acknowledge_ping(&self, ping: &Ping) -> Result<(), BucketError> {
        if !self.object_exists(&ping.key()).await? {
            return Ok(());
        }
        let call = self.client.put_object().bucket(&*self.name).key(ping.pong_key());
        let call = call.body(ByteStream::from_static(b"pong")).send().await;
        call.map_err(|error| self.call_error("PutObject", &error))?;
        Ok(())
    }

    /// Whether the bucket has an object `key`, which need not be the key of a photo.
    pub(crate) async fn object_exists(&self, key: &str) -> Result<bool, BucketError> {
        match self.client.head_object().bucket(&*self.name).key(key).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(false),
            Err(error) => Err(self.call_error("HeadObject", &error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_of_a_ping_parses_as_one() {
        let prefix = KeyPrefix::parse("app/").unwrap();
        let ping = Ping::random(&prefix);
        assert_eq!(Ping::parse(&prefix, &ping.key()), Some(ping.clone()));
        for other in [
            ping.pong_key(),
            "app/summer/a.ping".into(),
            format!("x{}", ping.key()),
            "app/.photoshare/doctor/.ping".into(),
        ] {
            assert_eq!(Ping::parse(&prefix, &other), None, "{other}");
        }
    }
}
