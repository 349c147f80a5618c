//! S3 inside the process, for `photoshare dev`: a folder served by `s3s`, whose changes become the same
//! event messages that AWS sends.

mod access;
mod multipart;
mod notify;
mod store;

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use s3s::{
    auth::SimpleAuth,
    service::{S3Service, S3ServiceBuilder},
};

use crate::queue::LocalQueue;
use access::SignedHeaders;
use store::NotifyingStore;

/// The bucket's name: the first part of its paths.
pub const BUCKET: &str = "photoshare";

/// The keys that requests to the embedded S3 are signed with. They live as long as the data.
#[derive(Clone)]
pub struct Keys {
    /// The key's id.
    pub access_key_id: String,
    /// The secret.
    pub secret_access_key: String,
}

/// The embedded S3 could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The data folder can't be used.
    #[error("data folder {path}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// s3s-fs refused the folder.
    #[error("embedded S3: {0}")]
    Store(String),
}

/// Opens the embedded S3 on `folder`; what it stores and deletes is told to `queue`.
///
/// # Errors
/// When the folder can't be made or read.
pub fn open(folder: &Path, keys: &Keys, queue: Arc<LocalQueue>) -> Result<S3Service, LocalError> {
    let root = folder.join("s3");
    std::fs::create_dir_all(root.join(BUCKET))
        .map_err(|source| LocalError::Folder { path: root.clone(), source })?;
    let files = s3s_fs::FileSystem::new(&root).map_err(|error| LocalError::Store(format!("{error:?}")))?;
    let mut builder = S3ServiceBuilder::new(NotifyingStore::new(files, root, queue));
    builder.set_access(SignedHeaders);
    builder.set_auth(SimpleAuth::from_single(keys.access_key_id.clone(), keys.secret_access_key.clone()));
    Ok(builder.build())
}

impl Keys {
    /// Those in `folder`; made and kept there the first time.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn of(folder: &Path) -> Result<Self, LocalError> {
        let path = folder.join("secret");
        let failed = |source| LocalError::Folder { path: path.clone(), source };
        let secret_access_key = match std::fs::read_to_string(&path) {
            Ok(secret) => secret.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder).map_err(failed)?;
                let mut random = [0; 32];
                getrandom::fill(&mut random).expect("the system has randomness");
                let secret = hex::encode(random);
                write_secret(&path, &secret).map_err(failed)?;
                secret
            }
            Err(error) => return Err(failed(error)),
        };
        Ok(Self { access_key_id: "photoshare-dev".into(), secret_access_key })
    }
}

/// Writes what only its owner may read.
fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create_new(true).open(path)?.write_all(secret.as_bytes())
}
