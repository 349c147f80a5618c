//! A certificate that nobody vouches for, gone with the test.

#![allow(clippy::unwrap_used)]

use std::{
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicUsize, Ordering},
};

pub struct Certificate {
    folder: PathBuf,
    key_file: String,
    file: String,
}

impl Certificate {
    pub fn sign_itself() -> Self {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("photoshare-tls-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let [key_file, file] =
            ["key.pem", "cert.pem"].map(|name| folder.join(name).to_str().unwrap().to_owned());
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=redis"])
            .args(["-keyout", &key_file, "-out", &file])
            .output()
            .expect("openssl is installed");
        assert!(made.status.success());
        Self { folder, key_file, file }
    }

    /// What makes a Redis listen with it on `port`.
    pub fn options<'a>(&'a self, port: &'a str) -> Vec<&'a str> {
        [
            ["--tls-port", port],
            ["--tls-key-file", &self.key_file],
            ["--tls-cert-file", &self.file],
            ["--tls-ca-cert-file", &self.file],
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
