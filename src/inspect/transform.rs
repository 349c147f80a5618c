//! Transformative properties of HEIF and AVIF items. ISO/IEC 23008-12, section 6.5

use super::byte_view::ByteView;

/// Applies a property to the size of an item. Returns `None` if the result can't be decided. Other properties
/// do not change the size.
pub(super) fn apply(kind: [u8; 4], body: ByteView<'_>, size: (u32, u32)) -> Option<(u32, u32)> {
    match &kind {
        b"irot" => rotate(body, size),
        b"clap" => crop(body, size),
        // Scaling, which few viewers implement.
        b"iscl" => None,
        _ => Some(size),
    }
}

/// `irot` rotates by multiples of 90°.
fn rotate(body: ByteView<'_>, (width, height): (u32, u32)) -> Option<(u32, u32)> {
    Some(if body.u8(0)? & 1 == 1 { (height, width) } else { (width, height) })
}

/// `clap` crops to a clean aperture. Its fields are two sizes and two offsets of the center, each a fraction.
fn crop(body: ByteView<'_>, (width, height): (u32, u32)) -> Option<(u32, u32)> {
    Some((crop_side(body, width, 0)?, crop_side(body, height, 8)?))
}

/// Crops one side. Viewers round fractions and clamp what is outside of the image in their own ways: the
/// result is then unknown.
fn crop_side(body: ByteView<'_>, side: u32, at: usize) -> Option<u32> {
    let (numerator, denominator) = (body.u32_be(at)?, body.u32_be(at + 4)?);
    let cropped = numerator.checked_div(denominator).filter(|_| numerator % denominator == 0)?;
    let margin = side.checked_sub(cropped)?;
    let (offset, denominator) = (body.u32_be(at + 16)?.cast_signed(), body.u32_be(at + 20)?);
    let is_within = 2 * u64::from(offset.unsigned_abs()) <= u64::from(margin) * u64::from(denominator);
    (denominator > 0 && is_within).then_some(cropped)
}
