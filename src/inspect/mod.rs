//! Detects the real type and the dimensions of a file from its first bytes. Pure: no I/O, no clock.
//!
//! The bytes are untrusted: a file may be crafted to break a parser. A panic of a parser is caught here.

mod detected_type;

use std::{io::Cursor, panic::catch_unwind};

use exif::{In, Tag};

pub use detected_type::DetectedType;

/// The result of inspecting a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    /// The type by magic bytes.
    pub detected_type: DetectedType,
    /// Width and height in pixels after the Exif orientation is applied; `None` if they can't be read.
    pub dimensions: Option<(u32, u32)>,
}

/// Inspects the first bytes of a file.
#[must_use]
pub fn inspect_bytes(first: &[u8]) -> Inspection {
    let detected_type = DetectedType::detect(first);
    let dimensions = match detected_type {
        DetectedType::Photo(_) => catch_unwind(|| read_dimensions(first)).ok().flatten(),
        DetectedType::Other(_) | DetectedType::Unknown => None,
    };
    Inspection { detected_type, dimensions }
}

fn read_dimensions(first: &[u8]) -> Option<(u32, u32)> {
    let size = imagesize::blob_size(first).ok()?;
    let (width, height) = (u32::try_from(size.width).ok()?, u32::try_from(size.height).ok()?);
    let (width, height) = if is_rotated_by_exif(first) { (height, width) } else { (width, height) };
    (width > 0 && height > 0).then_some((width, height))
}

/// Whether the Exif orientation rotates the image by 90° or 270°. HEIF and AVIF have a rotation of their
/// own, which `imagesize` applies, and readers must ignore their Exif orientation.
/// <https://www.cipa.jp/std/documents/download_e.html?CIPA_DC-008-2024-E>
fn is_rotated_by_exif(first: &[u8]) -> bool {
    if matches!(DetectedType::detect(first), DetectedType::Photo("image/heic" | "image/heif" | "image/avif"))
    {
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
