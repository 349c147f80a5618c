//! Ping and pong: an object that `photoshare doctor` stores, and the one by which a running server says
//! that the event of it arrived. So the doctor need not take messages away from that server.

use std::{collections::BTreeMap, time::Duration};

use aws_sdk_s3::{operation::head_object::HeadObjectError, primitives::ByteStream};
use jiff::Timestamp;

use super::{Bucket, BucketError, sign::Request};
use crate::feed::KeyPrefix;

const FOLDER: &str = ".photoshare/doctor/";

/// A doctor's object. It lies where no feed can be, so that it is never announced or listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ping {
    stem: String,
}

impl Ping {
    /// One that was never there.
    #[must_use]
    pub fn random(prefix: &KeyPrefix) -> Self {
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect("the system has randomness");
        Self { stem: format!("{}{FOLDER}{}", prefix.as_str(), hex::encode(random)) }
    }

    /// The ping whose key this is, if it is one.
    #[must_use]
    pub fn parse(prefix: &KeyPrefix, key: &str) -> Option<Self> {
        let stem = key.strip_suffix(".ping")?;
        let id = stem.strip_prefix(prefix.as_str())?.strip_prefix(FOLDER)?;
        let issued = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        issued.then(|| Self { stem: stem.to_owned() })
    }

    /// Whether `key` is of a ping or of an answer.
    #[must_use]
    pub fn owns(prefix: &KeyPrefix, key: &str) -> bool {
        key.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with(FOLDER))
    }

    /// What the doctor stores.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{}.ping", self.stem)
    }

    fn pong(&self) -> String {
        format!("{}.pong", self.stem)
    }
}

impl Bucket {
    /// A URL that stores a ping, signed as uploads are, and the headers to send with it.
    #[must_use]
    pub fn signed_ping(&self, ping: &Ping, size: u64) -> (String, BTreeMap<String, String>) {
        let headers = BTreeMap::from([
            ("content-type".to_owned(), "image/jpeg".to_owned()),
            ("if-none-match".to_owned(), "*".to_owned()),
        ]);
        let size = size.to_string();
        let mut signed: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        signed.push(("content-length", &size));
        let key = ping.key();
        let request = Request { method: "PUT", key: &key, query: &[], headers: &signed };
        let url = self.signer.sign(self.base(), request, Timestamp::now(), Duration::from_mins(5)).url;
        (url, headers)
    }

    /// Says that the event of `ping` arrived, while it is there: the answer to a doctor that has cleaned up
    /// would stay for good.
    ///
    /// # Errors
    /// When S3 can't tell, or did not store it.
    pub async fn answer(&self, ping: &Ping) -> Result<(), BucketError> {
        if !self.is_stored(&ping.key()).await? {
            return Ok(());
        }
        let call = self.client.put_object().bucket(&*self.name).key(ping.pong());
        let call = call.body(ByteStream::from_static(b"pong")).send().await;
        call.map_err(|error| self.failed("PutObject", &error))?;
        Ok(())
    }

    /// Whether a server has answered `ping`.
    ///
    /// # Errors
    /// When S3 can't tell.
    pub async fn is_answered(&self, ping: &Ping) -> Result<bool, BucketError> {
        self.is_stored(&ping.pong()).await
    }

    async fn is_stored(&self, key: &str) -> Result<bool, BucketError> {
        match self.client.head_object().bucket(&*self.name).key(key).send().await {
            Ok(_) => Ok(true),
            Err(error) if error.as_service_error().is_some_and(HeadObjectError::is_not_found) => Ok(false),
            Err(error) => Err(self.failed("HeadObject", &error)),
        }
    }

    /// Removes a ping and its answer, in this order: a server looks for the one before it stores the other.
    ///
    /// # Errors
    /// When S3 did not do it.
    pub async fn clean_up(&self, ping: &Ping) -> Result<(), BucketError> {
        for key in [ping.key(), ping.pong()] {
            let call = self.client.delete_object().bucket(&*self.name).key(key);
            call.send().await.map_err(|error| self.failed("DeleteObject", &error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_doctor_stores_is_a_ping() {
        let prefix = KeyPrefix::parse("app/").unwrap();
        let ping = Ping::random(&prefix);
        assert_eq!(Ping::parse(&prefix, &ping.key()), Some(ping.clone()));
        for other in [
            ping.pong(),
            "app/summer/a.ping".into(),
            format!("x{}", ping.key()),
            "app/.photoshare/doctor/.ping".into(),
        ] {
            assert_eq!(Ping::parse(&prefix, &other), None, "{other}");
        }
    }
}
