//! The objects of the round trip: the doctor's ping, and the pong by which a server acknowledges its event.

use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;

use super::error::RoundTripError;
use crate::{
    bucket::{Bucket, BucketError, Ping},
    doctor::{bucket::stack_parameters, report::format_with_sources},
};

const OBJECT_BODY: &[u8] = b"photoshare doctor";
const URL_TTL: Duration = Duration::from_mins(5);

/// Stores the ping by a presigned PUT, as a client stores a photo.
pub(super) async fn store(bucket: &Bucket, ping: &Ping) -> Result<(), RoundTripError> {
    let headers = BTreeMap::from([
        ("content-type".to_owned(), "image/jpeg".to_owned()),
        ("if-none-match".to_owned(), "*".to_owned()),
    ]);
    let size = OBJECT_BODY.len() as u64;
    let signed = bucket.presign_put(bucket.url(), &ping.key(), &headers, size, URL_TTL, Timestamp::now());
    let client = reqwest::Client::builder().timeout(Duration::from_secs(10)).build();
    let mut request = client
        .map_err(|error| RoundTripError::transient(error.to_string()))?
        .put(signed.url)
        .body(OBJECT_BODY);
    for (name, value) in headers {
        request = request.header(name, value);
    }
    // Errors omit the URL: its signature is valid for some minutes.
    let response = request
        .send()
        .await
        .map_err(|error| RoundTripError::transient(format_with_sources(&error.without_url())))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let body = response.text().await.unwrap_or_default();
    let code = body.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    let found = format!("the presigned PUT was refused: {status} {}", code.map_or("", |(code, _)| code));
    Err(if status.is_server_error() {
        RoundTripError::transient(found)
    } else {
        RoundTripError::access_denied(found, &stack_parameters(bucket))
    })
}

/// Whether a server has stored the pong.
pub(super) async fn is_acknowledged(bucket: &Bucket, ping: &Ping) -> Result<bool, BucketError> {
    bucket.object_exists(&ping.pong_key()).await
}

/// Deletes the ping, then its pong. In this order, since a server checks the ping before it stores the pong.
pub(super) async fn delete(bucket: &Bucket, ping: &Ping) -> Result<(), BucketError> {
    for key in [ping.key(), ping.pong_key()] {
        let call = bucket.client().delete_object().bucket(bucket.name()).key(key);
        call.send().await.map_err(|error| bucket.call_error("DeleteObject", &error))?;
    }
    Ok(())
}
