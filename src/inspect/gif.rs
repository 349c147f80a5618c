//! Dimensions of GIF files. <https://www.w3.org/Graphics/GIF/spec-gif89a.txt>

use super::byte_view::{ByteView, MAX_ENTRIES};

const EXTENSION: u8 = 0x21;
const IMAGE_DESCRIPTOR: u8 = 0x2c;

/// Returns width and height of the logical screen. Viewers enlarge a screen that does not contain the first
/// frame, each in its own way: the dimensions are then unknown.
pub(super) fn dimensions(gif: ByteView<'_>) -> Option<(u32, u32)> {
    let screen = (u32::from(gif.u16_le(6)?), u32::from(gif.u16_le(8)?));
    let is_within = |(right, bottom)| right <= screen.0 && bottom <= screen.1;
    first_frame_end(gif).is_none_or(is_within).then_some(screen)
}

/// The right and bottom edges of the first frame, if it is within the sample.
fn first_frame_end(gif: ByteView<'_>) -> Option<(u32, u32)> {
    let flags = gif.u8(10)?;
    let color_table = if flags & 0x80 == 0 { 0 } else { 3 << ((flags & 7) + 1) };
    let mut at = 13 + color_table;
    for _ in 0..MAX_ENTRIES {
        match gif.u8(at)? {
            EXTENSION => at = skip_sub_blocks(gif, at + 2)?,
            IMAGE_DESCRIPTOR => {
                let field = |offset| gif.u16_le(at + offset).map(u32::from);
                return Some((field(1)? + field(5)?, field(3)? + field(7)?));
            }
            _ => return None,
        }
    }
    None
}

/// Returns the position after the sub-blocks at `at`, the last of which is empty.
fn skip_sub_blocks(gif: ByteView<'_>, mut at: usize) -> Option<usize> {
    for _ in 0..MAX_ENTRIES {
        let length = usize::from(gif.u8(at)?);
        at += 1 + length;
        if length == 0 {
            return Some(at);
        }
    }
    None
}

#[cfg(test)]
mod tests;
