//! The log in a Redis that is spoken to over TLS.

#![allow(clippy::unwrap_used)]

mod support;

use std::process::Command;

use photoshare_server::log::{FeedLog, RedisAddress, RedisLog, RedisSettings};
use support::{
    RETENTION,
    redis_server::{RedisServer, free_port, settings},
};

#[tokio::test]
async fn trap_29_a_self_signed_certificate_is_refused_unless_it_is_allowed() {
    let folder = std::env::temp_dir().join(format!("photoshare-tls-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (key, certificate) = (file("key.pem"), file("cert.pem"));
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=redis"])
        .args(["-keyout", &key, "-out", &certificate])
        .output()
        .expect("openssl is installed");
    assert!(made.status.success());
    let tls_port = free_port().to_string();
    let tls = ["--tls-port", &tls_port, "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let _server = RedisServer::start_with(
        &[&tls[..], &["--tls-ca-cert-file", &certificate, "--tls-auth-clients", "no"]].concat(),
    )
    .await;

    let url = format!("rediss://127.0.0.1:{tls_port}");
    let log = |any_certificate| {
        let address = RedisAddress::parse(&url, any_certificate).unwrap();
        RedisLog::new(RedisSettings { address, ..settings(&url, 0) }, RETENTION).unwrap()
    };
    let refused = log(false).ping().await.unwrap_err();
    let why = format!("{:?}", std::error::Error::source(&refused));
    assert!(why.to_lowercase().contains("certificate"), "{why}");
    log(true).ping().await.unwrap();
    let _ = std::fs::remove_dir_all(folder);
}
