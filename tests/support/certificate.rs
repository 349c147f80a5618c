//! A self-signed certificate, deleted with the test.

#![allow(clippy::unwrap_used)]

use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

pub struct Certificate {
    folder: PathBuf,
    key_path: String,
    pem_path: String,
}

impl Certificate {
    pub fn self_signed() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("photoshare-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [key_path, pem_path] =
            ["key.pem", "cert.pem"].map(|name| folder.join(name).to_str().unwrap().to_owned());
        let output = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=redis"])
            .args(["-keyout", &key_path, "-out", &pem_path])
            .output()
            .expect("openssl is installed");
        assert!(output.status.success());
        Self { folder, key_path, pem_path }
    }

    /// The options with which a Redis accepts TLS connections on `port`.
    pub fn redis_options<'a>(&'a self, port: &'a str) -> Vec<&'a str> {
        [
            ["--tls-port", port],
            ["--tls-key-file", &self.key_path],
            ["--tls-cert-file", &self.pem_path],
            ["--tls-ca-cert-file", &self.pem_path],
            ["--tls-auth-clients", "no"],
        ]
        .concat()
    }
}

impl Drop for Certificate {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}
