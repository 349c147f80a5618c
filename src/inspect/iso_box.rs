//! Boxes of the ISO base media file format, on which HEIF and AVIF are based. ISO/IEC 14496-12

use std::iter;

use super::byte_view::{ByteView, MAX_ENTRIES};

/// A box.
#[derive(Debug, Clone, Copy)]
pub(super) struct IsoBox<'a> {
    /// Its four-character code.
    pub(super) kind: [u8; 4],
    /// What follows the header. Cut off at the end of the parent or of the sample.
    pub(super) body: ByteView<'a>,
    /// Whether the body is not cut off.
    pub(super) is_whole: bool,
}

/// The boxes in `parent`: at most [`MAX_ENTRIES`], up to the first one that is malformed or cut off.
pub(super) fn boxes(parent: ByteView<'_>) -> impl Iterator<Item = IsoBox<'_>> {
    let mut rest = Some(parent);
    iter::from_fn(move || {
        let (next, after) = read_box(rest?)?;
        rest = after;
        Some(next)
    })
    .take(MAX_ENTRIES)
}

/// The body of the first box of this kind, if it is whole.
pub(super) fn find_whole(parent: ByteView<'_>, kind: [u8; 4]) -> Option<ByteView<'_>> {
    boxes(parent).find(|child| child.kind == kind).filter(|child| child.is_whole).map(|child| child.body)
}

/// Reads the first box, and returns it with what follows it.
fn read_box(view: ByteView<'_>) -> Option<(IsoBox<'_>, Option<ByteView<'_>>)> {
    let kind = view.array(4)?;
    let (header, size) = match view.u32_be(0)? {
        // To the end of the parent.
        0 => (8, view.len()),
        // A 64-bit size follows.
        1 => (16, usize::try_from(view.u64_be(8)?).ok()?),
        size => (8, usize::try_from(size).ok()?),
    };
    let body = view.slice(header..size.min(view.len()))?;
    Some((IsoBox { kind, body, is_whole: size <= view.len() }, view.skip(size)))
}
