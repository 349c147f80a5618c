//! Embedded S3 for `photoshare dev`: `s3s` serves a folder, and each change sends the same event message that
//! AWS would send.

mod multipart;
mod notifier;
mod signed_headers;
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
pub use notifier::BUCKET_NAME;
use signed_headers::RequireSignedHeaders;
use store::NotifyingStore;

/// Credentials for the embedded S3, stored with the data.
#[derive(Clone)]
pub struct LocalCredentials {
    /// Access key id.
    pub access_key_id: String,
    /// Secret access key.
    pub secret_access_key: String,
}

/// The embedded S3 could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The data folder could not be read or written.
    #[error("failed to use the data folder {path}")]
    Folder {
        /// Path of the folder.
        path: PathBuf,
        /// The I/O error.
        #[source]
        source: io::Error,
    },
    /// s3s-fs rejected the folder.
    #[error("failed to start the embedded S3: {0}")]
    Store(String),
}

/// Opens the embedded S3 on `folder`. Sends an event message to `queue` for each stored or deleted object.
///
/// # Errors
/// When the folder can't be created or read.
pub fn open_store(
    folder: &Path,
    keys: &LocalCredentials,
    queue: Arc<LocalQueue>,
) -> Result<S3Service, LocalError> {
    let root = folder.join("s3");
    std::fs::create_dir_all(root.join(BUCKET_NAME))
        .map_err(|source| LocalError::Folder { path: root.clone(), source })?;
    let files = s3s_fs::FileSystem::new(&root).map_err(|error| LocalError::Store(format!("{error:?}")))?;
    let mut service = S3ServiceBuilder::new(NotifyingStore::new(files, root, queue));
    service.set_access(RequireSignedHeaders);
    service.set_auth(SimpleAuth::from_single(keys.access_key_id.clone(), keys.secret_access_key.clone()));
    Ok(service.build())
}

impl LocalCredentials {
    /// Loads the credentials from `folder`, or creates and stores them there.
    ///
    /// # Errors
    /// When the folder can't be read or written.
    pub fn load_or_create(folder: &Path) -> Result<Self, LocalError> {
        let path = folder.join("secret");
        let folder_error = |source| LocalError::Folder { path: path.clone(), source };
        let secret_access_key = match std::fs::read_to_string(&path) {
            Ok(secret) => secret.trim().to_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                std::fs::create_dir_all(folder).map_err(folder_error)?;
                let mut random = [0; 32];
                getrandom::fill(&mut random).expect("the system has randomness");
                let secret = hex::encode(random);
                write_secret(&path, &secret).map_err(folder_error)?;
                secret
            }
            Err(error) => return Err(folder_error(error)),
        };
        Ok(Self { access_key_id: "photoshare-dev".into(), secret_access_key })
    }
}

/// Writes a file that only its owner can read.
fn write_secret(path: &Path, secret: &str) -> io::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.write(true).create_new(true).open(path)?.write_all(secret.as_bytes())
}
