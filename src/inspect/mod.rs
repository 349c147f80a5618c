//! Detects the real type and the dimensions of a file from its first bytes. Pure: no I/O, no clock.
//!
//! The bytes are untrusted: a file may be crafted to break a parser. So the parsers are bounded by
//! construction: they read through a `ByteView`, which checks each position and counts each read, they do
//! not recurse, and no list has more than `MAX_ENTRIES` entries. A size that viewers may disagree about is
//! unknown.

mod byte_view;
mod detected_type;
mod exif;
mod gif;
mod heif;
mod iso_box;
mod jpeg;
mod png;
mod transform;
mod webp;

use byte_view::ByteView;

pub use byte_view::ReadBudget;
pub use detected_type::DetectedType;

/// The result of inspecting a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inspection {
    /// The type by magic bytes.
    pub detected_type: DetectedType,
    /// Width and height in pixels as displayed; `None` if they can't be read.
    pub dimensions: Option<(u32, u32)>,
}

/// Inspects the first bytes of a file.
#[must_use]
pub fn inspect_bytes(first: &[u8]) -> Inspection {
    let detected_type = DetectedType::detect(first);
    let dimensions = read_dimensions(first, detected_type, &ReadBudget::default());
    Inspection { detected_type, dimensions }
}

/// Reads width and height as displayed from the first bytes of a file of this type, with at most the reads
/// that remain in `budget`.
#[must_use]
pub fn read_dimensions(first: &[u8], detected_type: DetectedType, budget: &ReadBudget) -> Option<(u32, u32)> {
    let view = ByteView::new(first, budget);
    let dimensions = match detected_type.photo_type()? {
        "image/jpeg" => jpeg::dimensions(view),
        "image/png" => png::dimensions(view),
        "image/gif" => gif::dimensions(view),
        "image/webp" => webp::dimensions(view),
        "image/heic" | "image/heif" | "image/avif" => heif::dimensions(view),
        _ => None,
    };
    dimensions.filter(|(width, height)| *width > 0 && *height > 0 && !budget.is_exhausted())
}

#[cfg(test)]
mod tests;
