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

/// Every part but the last has at least so many bytes.
const MIN_PART: i64 = 5 * 1024 * 1024;

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

    pub(super) fn end(&self, id: &str) {
        self.uploads().remove(id);
    }

    fn uploads(&self) -> MutexGuard<'_, HashMap<String, Upload>> {
        self.0.lock().expect("no panic while held")
    }
}

/// Whether an object can be made of the parts that are named: each by the tag that it has, in their order,
/// and of them all only the last a small one. `stored` is what
/// [`MultipartUploads::complete_list`] completed.
pub(super) fn check_parts(stored: &[Part], named: &[CompletedPart]) -> S3Result<()> {
    let find = |part: &CompletedPart| stored.iter().find(|stored| stored.part_number == part.part_number);
    let tag = |tag: &Option<ETag>| tag.as_ref().map(|tag| tag.value().to_owned());
    if !named.iter().all(|part| find(part).is_some_and(|stored| tag(&stored.e_tag) == tag(&part.e_tag))) {
        return Err(s3_error!(InvalidPart));
    }
    if !named.is_sorted_by(|one, next| one.part_number < next.part_number) {
        return Err(s3_error!(InvalidPartOrder));
    }
    let but_last = named.split_last().map_or(named, |(_, others)| others);
    if but_last.iter().filter_map(find).any(|stored| stored.size < Some(MIN_PART)) {
        return Err(s3_error!(EntityTooSmall));
    }
    Ok(())
}
