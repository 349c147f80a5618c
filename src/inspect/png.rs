//! Dimensions of PNG files. <https://www.w3.org/TR/png-3/>

use super::{
    byte_view::{ByteView, MAX_ENTRIES},
    exif,
};

const SIGNATURE_BYTES: usize = 8;
/// Length, type and checksum.
const CHUNK_OVERHEAD: usize = 12;

/// Returns width and height as displayed, with the orientation of an `eXIf` chunk that is within the sample.
pub(super) fn dimensions(png: ByteView<'_>) -> Option<(u32, u32)> {
    let (width, height) = header(png)?;
    Some(if swaps_sides(png)? { (height, width) } else { (width, height) })
}

/// Reads `IHDR`. In Apple's variant of the format `CgBI` precedes it.
fn header(png: ByteView<'_>) -> Option<(u32, u32)> {
    let first = Chunk::read(png, SIGNATURE_BYTES)?;
    let header = if first.kind == *b"CgBI" { Chunk::read(png, first.end)? } else { first };
    let body = png.slice(header.body..header.body + 13).filter(|_| header.kind == *b"IHDR")?;
    Some((body.u32_be(0)?, body.u32_be(4)?)).filter(|(width, height)| (width | height) >> 31 == 0)
}

/// Whether the orientation exchanges width and height. Returns `None` if that can't be decided.
fn swaps_sides(png: ByteView<'_>) -> Option<bool> {
    let mut at = SIGNATURE_BYTES;
    let mut has_pixels = false;
    for _ in 0..MAX_ENTRIES {
        let Some(chunk) = Chunk::read(png, at) else { return Some(false) };
        match &chunk.kind {
            b"eXIf" => {
                let swaps = exif::swaps_sides(png.slice(chunk.body..chunk.end - 4)?)?;
                // Some viewers ignore an orientation after the pixels.
                return (!has_pixels || !swaps).then_some(swaps);
            }
            b"IEND" => return Some(false),
            b"IDAT" => has_pixels = true,
            _ => {}
        }
        at = chunk.end;
    }
    has_pixels.then_some(false)
}

/// A chunk, whose end may be beyond the sample.
struct Chunk {
    kind: [u8; 4],
    body: usize,
    end: usize,
}

impl Chunk {
    fn read(png: ByteView<'_>, at: usize) -> Option<Self> {
        let length = usize::try_from(png.u32_be(at)?).ok()?;
        let kind = png.array(at + 4)?;
        Some(Self { kind, body: at + 8, end: at.checked_add(length)?.checked_add(CHUNK_OVERHEAD)? })
    }
}

#[cfg(test)]
mod tests;
