//! What s3s-fs does not keep of uploads in parts: whose they are, and the tags of their parts.
//!
//! It is kept in memory: an upload in parts does not outlive the process.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard},
};

use s3s::{
    S3Result,
    dto::{CompletedPart, ETag, Part},
    s3_error,
};

/// The uploads in parts that have begun, by id.
#[derive(Debug, Default)]
pub(super) struct MultipartUploads(Mutex<HashMap<String, Upload>>);

#[derive(Debug)]
struct Upload {
    key: String,
    tags: BTreeMap<i32, ETag>,
}

impl MultipartUploads {
    pub(super) fn begin(&self, id: Option<&str>, key: String) {
        let upload = Upload { key, tags: BTreeMap::new() };
        self.uploads().extend(id.map(|id| (id.to_owned(), upload)));
    }

    /// Whether there is such an upload, and of that key.
    pub(super) fn check(&self, id: &str, key: &str) -> S3Result<()> {
        match self.uploads().get(id) {
            Some(upload) if upload.key == key => Ok(()),
            _ => Err(s3_error!(NoSuchUpload)),
        }
    }

    pub(super) fn note(&self, id: &str, number: i32, tag: Option<ETag>) {
        if let Some(upload) = self.uploads().get_mut(id) {
            upload.tags.extend(tag.map(|tag| (number, tag)));
        }
    }

    /// Gives `parts` their tags, in the order of their numbers.
    pub(super) fn complete_list(&self, id: &str, parts: &mut Vec<Part>) {
        let uploads = self.uploads();
        let tags = uploads.get(id).map(|upload| &upload.tags);
        parts.retain_mut(|part| {
            part.e_tag = part.part_number.and_then(|number| tags?.get(&number).cloned());
            part.e_tag.is_some()
        });
        parts.sort_by_key(|part| part.part_number);
    }

    /// Whether every part is named by the tag that it has.
    pub(super) fn check_parts(&self, id: &str, named: &[CompletedPart]) -> S3Result<()> {
        let uploads = self.uploads();
        let tags = uploads.get(id).map(|upload| &upload.tags);
        let known = |part: &CompletedPart| {
            let stored = part.part_number.and_then(|number| tags?.get(&number));
            stored.is_some() && stored.map(ETag::value) == part.e_tag.as_ref().map(ETag::value)
        };
        if named.iter().all(known) { Ok(()) } else { Err(s3_error!(InvalidPart)) }
    }

    pub(super) fn end(&self, id: &str) {
        self.uploads().remove(id);
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.0.lock().expect("no panic while held")
    }
}
