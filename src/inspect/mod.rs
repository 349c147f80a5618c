//! What a photo really is, by its first bytes. Pure: no call, no clock.
//!
//! The bytes are anybody's: parsers written for photos meet files made to break them, so their panics
//! end here.

mod kind;

use std::{io::Cursor, panic::catch_unwind};

use exif::{In, Tag};

pub use kind::Kind;

/// What the first bytes of an object tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Findings {
    /// What it is.
    pub kind: Kind,
    /// Width and height in pixels as shown, where they can be read.
    pub dimensions: Option<(u32, u32)>,
}

/// Reads what `first`, the beginning of an object, tells.
#[must_use]
pub fn inspect(first: &[u8]) -> Findings {
    let kind = Kind::of(first);
    let dimensions = match kind {
        Kind::Photo(_) => catch_unwind(|| dimensions(first)).ok().flatten(),
        Kind::Other(_) | Kind::Unknown => None,
    };
    Findings { kind, dimensions }
}

/// As shown: those that are turned by a quarter swap their sides.
fn dimensions(first: &[u8]) -> Option<(u32, u32)> {
    let size = imagesize::blob_size(first).ok()?;
    let (width, height) = (u32::try_from(size.width).ok()?, u32::try_from(size.height).ok()?);
    let (width, height) = if turned(first) { (height, width) } else { (width, height) };
    (width > 0 && height > 0).then_some((width, height))
}

/// Whether the Exif orientation is one of those by a quarter. HEIF has its own way to turn, which
/// `imagesize` knows, and its Exif orientation is not to be heeded.
/// <https://www.cipa.jp/std/documents/download_e.html?CIPA_DC-008-2024-E>
fn turned(first: &[u8]) -> bool {
    if matches!(Kind::of(first), Kind::Photo("image/heic" | "image/heif" | "image/avif")) {
        return false;
    }
    let mut reader = exif::Reader::new();
    let read = reader.continue_on_error(true).read_from_container(&mut Cursor::new(first));
    let exif = read.or_else(|error| error.distill_partial_result(|_| {})).ok();
    let field = exif.as_ref().and_then(|exif| exif.get_field(Tag::Orientation, In::PRIMARY));
    field.and_then(|field| field.value.get_uint(0)).is_some_and(|value| (5..=8).contains(&value))
}

#[cfg(test)]
mod tests;
