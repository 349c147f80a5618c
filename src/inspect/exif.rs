//! The orientation in Exif metadata. <https://www.cipa.jp/std/documents/download_e.html?CIPA_DC-008-2024-E>

use super::byte_view::{ByteView, MAX_ENTRIES};

const ENTRY_BYTES: usize = 12;
const ORIENTATION: u16 = 0x0112;
const SHORT: u16 = 3;

/// Whether the orientation exchanges width and height. Returns `None` if that can't be decided: the directory
/// is too long, or its orientation is one that viewers may interpret differently.
///
/// Reads only the first directory, which is that of the image, and follows no pointer in it. `tiff` must be
/// all of the metadata, not only the part of it that is within a sample.
pub(super) fn swaps_sides(tiff: ByteView<'_>) -> Option<bool> {
    // Every viewer ignores what is not a TIFF directory.
    let Some((directory, order)) = first_directory(tiff) else { return Some(false) };
    let Some(count) = directory.array(0).map(|bytes| usize::from(order.u16(bytes))) else {
        return Some(false);
    };
    let mut found = None;
    for index in 0..count.min(MAX_ENTRIES) {
        let Some(entry) = directory.array(2 + index * ENTRY_BYTES) else {
            // Truncated. No viewer finds more entries, but some discard those before.
            return found.is_none_or(|found| found == Orientation::KeepsSides).then_some(false);
        };
        if let Some(orientation) = order.orientation_in(entry) {
            let agrees = found.is_none_or(|found| found == orientation);
            found = Some(if agrees { orientation } else { Orientation::Disputed });
        }
    }
    match found {
        None => (count <= MAX_ENTRIES).then_some(false),
        Some(Orientation::KeepsSides) => Some(false),
        Some(Orientation::SwapsSides) => Some(true),
        Some(Orientation::Disputed) => None,
    }
}

/// What an orientation means for width and height.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Orientation {
    KeepsSides,
    SwapsSides,
    /// Viewers interpret it differently.
    Disputed,
}

/// Byte order of a TIFF structure.
#[derive(Clone, Copy)]
enum ByteOrder {
    Little,
    Big,
}

fn first_directory(tiff: ByteView<'_>) -> Option<(ByteView<'_>, ByteOrder)> {
    let order = match &tiff.array(0)? {
        b"II*\0" => ByteOrder::Little,
        b"MM\0*" => ByteOrder::Big,
        _ => return None,
    };
    let offset = usize::try_from(order.u32(tiff.array(4)?)).ok()?;
    Some((tiff.skip(offset)?, order))
}

impl ByteOrder {
    fn u16(self, bytes: [u8; 2]) -> u16 {
        match self {
            Self::Little => u16::from_le_bytes(bytes),
            Self::Big => u16::from_be_bytes(bytes),
        }
    }

    fn u32(self, bytes: [u8; 4]) -> u32 {
        match self {
            Self::Little => u32::from_le_bytes(bytes),
            Self::Big => u32::from_be_bytes(bytes),
        }
    }

    /// Returns the orientation in `entry`, unless it is an entry of another tag.
    fn orientation_in(self, entry: [u8; ENTRY_BYTES]) -> Option<Orientation> {
        let [t0, t1, k0, k1, c0, c1, c2, c3, value @ ..] = entry;
        if self.u16([t0, t1]) != ORIENTATION {
            return None;
        }
        let is_valid = self.u16([k0, k1]) == SHORT && self.u32([c0, c1, c2, c3]) == 1;
        let rotates = |value: u16| (5..=8).contains(&value);
        Some(if is_valid && rotates(self.u16([value[0], value[1]])) {
            Orientation::SwapsSides
        } else if is_valid || !value.iter().any(|byte| rotates((*byte).into())) {
            Orientation::KeepsSides
        } else {
            // Of another type, which only some viewers accept.
            Orientation::Disputed
        })
    }
}

#[cfg(test)]
mod tests;
