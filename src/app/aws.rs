//! The AWS SDK configuration of each command, and the secret derived from its credentials.

use std::{net::SocketAddr, time::Duration};

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::{
    Credentials,
    provider::{ProvideCredentials, SharedCredentialsProvider},
};
use futures_util::future::OptionFuture;
use secrecy::ExposeSecret;
use tracing::warn;

use crate::{
    config::{AwsConfig, WebConfig},
    feed::NameSecret,
    local,
};

/// A credentials provider may contact a metadata service that does not respond.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(10);

/// Loads the SDK configuration from the environment; `aws` overrides the region.
pub async fn load_aws_sdk(aws: &AwsConfig) -> SdkConfig {
    let loader = aws_config::defaults(BehaviorVersion::latest());
    match &aws.region {
        Some(region) => loader.region(Region::new(region.clone())),
        None => loader,
    }
    .load()
    .await
}

/// Builds an SDK configuration for the S3 that this process embeds at `address`.
pub(super) fn build_local_sdk(keys: &local::LocalCredentials, address: SocketAddr) -> SdkConfig {
    let host = if address.ip().is_unspecified() {
        SocketAddr::new([127, 0, 0, 1].into(), address.port())
    } else {
        address
    };
    let credentials = Credentials::new(&keys.access_key_id, &keys.secret_access_key, None, None, "local");
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(format!("http://{host}"))
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build()
}

/// Returns the secret that seals the names of uploads: `UPLOAD_NAME_SECRET`, else `AUTH_JWT_SECRET`, else the
/// AWS secret key. Every process must have the same one, also after a restart: a process renews only the
/// grants whose names its secret has sealed. Temporary AWS credentials don't qualify, since they expire.
pub(super) async fn upload_name_secret(web: &WebConfig, sdk: &SdkConfig) -> NameSecret {
    let jwt_secret = web.auth.keys.as_ref().and_then(|keys| keys.secret.as_ref());
    if let Some(secret) = web.upload_name_secret.as_ref().or(jwt_secret) {
        return NameSecret::new(secret.expose_secret().as_bytes());
    }
    if let Some(credentials) = fetch_permanent_credentials(sdk).await {
        return NameSecret::new(credentials.secret_access_key().as_bytes());
    }
    warn!(
        "other processes, and this one after a restart, can't renew the grants of this process: \
         set UPLOAD_NAME_SECRET"
    );
    NameSecret::random()
}

async fn fetch_permanent_credentials(sdk: &SdkConfig) -> Option<Credentials> {
    let credentials = sdk.credentials_provider().map(async |provider| {
        let credentials = tokio::time::timeout(CREDENTIALS_TIMEOUT, provider.provide_credentials()).await;
        credentials.ok()?.ok()
    });
    let credentials = OptionFuture::from(credentials).await.flatten();
    credentials.filter(|credentials| credentials.session_token().is_none())
}
