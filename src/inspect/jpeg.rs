//! Dimensions of JPEG files. <https://www.w3.org/Graphics/JPEG/itu-t81.pdf>, annex B

use super::{
    byte_view::{ByteView, MAX_ENTRIES},
    exif,
};

const START_OF_SCAN: u8 = 0xda;
const APP1: u8 = 0xe1;

/// Returns width and height as displayed. Viewers also obey Exif metadata between the frame header and the
/// pixels, so both must be within the sample.
pub(super) fn dimensions(jpeg: ByteView<'_>) -> Option<(u32, u32)> {
    let mut headers = Headers::default();
    let mut at = 2;
    for _ in 0..MAX_ENTRIES {
        if jpeg.u8(at)? != 0xff {
            return None;
        }
        // Any number of fill bytes may precede a marker.
        at = jpeg.skip_run(at, 0xff)?;
        let marker = jpeg.u8(at)?;
        at += 1;
        if is_standalone(marker) {
            continue;
        }
        if marker == START_OF_SCAN {
            return headers.dimensions();
        }
        let length = usize::from(jpeg.u16_be(at)?);
        headers.read_segment(marker, jpeg.slice(at + 2..at + length)?)?;
        if headers.swaps_sides.is_some() && headers.frame.is_some() {
            return headers.dimensions();
        }
        at += length;
    }
    None
}

/// What is known of the segments before the pixels.
#[derive(Default)]
struct Headers {
    frame: Option<(u32, u32)>,
    swaps_sides: Option<bool>,
}

impl Headers {
    /// Reads a segment. Returns `None` if the dimensions can't be decided.
    fn read_segment(&mut self, marker: u8, body: ByteView<'_>) -> Option<()> {
        match marker {
            APP1 if self.swaps_sides.is_none() && body.array(0) == Some(*b"Exif\0\0") => {
                self.swaps_sides = Some(exif::swaps_sides(body.skip(6)?)?);
            }
            // A second frame is an error.
            _ if is_frame_header(marker) => match self.frame {
                None => self.frame = Some((body.u16_be(3)?.into(), body.u16_be(1)?.into())),
                Some(_) => return None,
            },
            // Of several frames of different sizes (DHP), or no segment at all (stuffing, EOI, a second SOI).
            0xde | 0x00 | 0xd8 | 0xd9 => return None,
            _ => {}
        }
        Some(())
    }

    fn dimensions(&self) -> Option<(u32, u32)> {
        let (width, height) = self.frame?;
        Some(if self.swaps_sides == Some(true) { (height, width) } else { (width, height) })
    }
}

/// SOF0 to SOF15. DHT, JPG and DAC lie in the same range.
fn is_frame_header(marker: u8) -> bool {
    matches!(marker, 0xc0..=0xcf) && !matches!(marker, 0xc4 | 0xc8 | 0xcc)
}

/// TEM and RST0 to RST7 have no length.
fn is_standalone(marker: u8) -> bool {
    matches!(marker, 0x01 | 0xd0..=0xd7)
}

#[cfg(test)]
mod tests;
