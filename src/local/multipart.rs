//! State of multipart uploads that s3s-fs does not store: their keys and the `ETag`s of their parts.
//!
//! It is in memory: multipart uploads do not survive a restart.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard},
};

use s3s::{
    S3Result,
    dto::{CompletedPart, ETag, Part},
    s3_error,
};

/// Minimum size of every part except the last.
const MIN_PART_BYTES: i64 = 5 * 1024 * 1024;

/// The multipart uploads in progress, by id.
#[derive(Debug, Default)]
pub(super) struct MultipartUploads(Mutex<HashMap<String, PendingUpload>>);

#[derive(Debug)]
struct PendingUpload {
    key: String,
    /// By part number.
    e_tags: BTreeMap<i32, ETag>,
}

impl MultipartUploads {
    pub(super) fn insert(&self, id: Option<&str>, key: String) {
        let upload = PendingUpload { key, e_tags: BTreeMap::new() };
        self.lock().extend(id.map(|id| (id.to_owned(), upload)));
    }

    /// Requires that the upload exists and has this key.
    pub(super) fn require(&self, id: &str, key: &str) -> S3Result<()> {
        match self.lock().get(id) {
            Some(upload) if upload.key == key => Ok(()),
            _ => Err(s3_error!(NoSuchUpload)),
        }
    }

    pub(super) fn record_part(&self, id: &str, number: i32, e_tag: Option<ETag>) {
        if let Some(upload) = self.lock().get_mut(id) {
            upload.e_tags.extend(e_tag.map(|e_tag| (number, e_tag)));
        }
    }

    /// Sets the `ETag` of each part, drops unknown parts and sorts by number.
    pub(super) fn fill_e_tags(&self, id: &str, parts: &mut Vec<Part>) {
        let uploads = self.lock();
        let e_tags = uploads.get(id).map(|upload| &upload.e_tags);
        parts.retain_mut(|part| {
            part.e_tag = part.part_number.and_then(|number| e_tags?.get(&number).cloned());
            part.e_tag.is_some()
        });
        parts.sort_by_key(|part| part.part_number);
    }

    pub(super) fn remove(&self, id: &str) {
        self.lock().remove(id);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, PendingUpload>> {
        self.0.lock().expect("no panic while held")
    }
}

/// Validates the parts of a request to complete an upload: each is stored with the given `ETag`, they are in
/// ascending order, and only the last is smaller than the minimum. `stored` comes from
/// [`MultipartUploads::fill_e_tags`].
pub(super) fn validate_parts(stored: &[Part], listed: &[CompletedPart]) -> S3Result<()> {
    let find = |part: &CompletedPart| stored.iter().find(|stored| stored.part_number == part.part_number);
    let value = |e_tag: &Option<ETag>| e_tag.as_ref().map(|e_tag| e_tag.value().to_owned());
    let is_stored =
        |part: &CompletedPart| find(part).is_some_and(|stored| value(&stored.e_tag) == value(&part.e_tag));
    if !listed.iter().all(is_stored) {
        return Err(s3_error!(InvalidPart));
    }
    if !listed.is_sorted_by(|part, next| part.part_number < next.part_number) {
        return Err(s3_error!(InvalidPartOrder));
    }
    let all_but_last = listed.split_last().map_or(listed, |(_, others)| others);
    if all_but_last.iter().filter_map(find).any(|stored| stored.size < Some(MIN_PART_BYTES)) {
        return Err(s3_error!(EntityTooSmall));
    }
    Ok(())
}
