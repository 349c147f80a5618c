//! Dimensions of WebP files. <https://developers.google.com/speed/webp/docs/riff_container>

use super::byte_view::ByteView;

/// Position of the first chunk, after the RIFF header.
const FIRST_CHUNK: usize = 12;
const CHUNK_HEADER_BYTES: usize = 8;

/// Returns width and height of the canvas. Browsers ignore the Exif orientation of WebP.
pub(super) fn dimensions(webp: ByteView<'_>) -> Option<(u32, u32)> {
    let body = webp.skip(FIRST_CHUNK + CHUNK_HEADER_BYTES)?;
    match &webp.array(FIRST_CHUNK)? {
        b"VP8X" => extended(body),
        b"VP8L" => lossless(body),
        b"VP8 " => lossy(body),
        _ => None,
    }
}

fn extended(body: ByteView<'_>) -> Option<(u32, u32)> {
    let side = |at| body.array(at).map(|[low, middle, high]| u32::from_le_bytes([low, middle, high, 0]) + 1);
    Some((side(4)?, side(7)?))
}

/// <https://developers.google.com/speed/webp/docs/webp_lossless_bitstream_specification>
fn lossless(body: ByteView<'_>) -> Option<(u32, u32)> {
    const SIGNATURE: u8 = 0x2f;
    let bits = body.u32_le(1)?;
    let (width, height, version) = ((bits & 0x3fff) + 1, (bits >> 14 & 0x3fff) + 1, bits >> 29);
    (body.u8(0)? == SIGNATURE && version == 0).then_some((width, height))
}

/// A key frame of VP8. <https://www.rfc-editor.org/rfc/rfc6386#section-9.1>
fn lossy(body: ByteView<'_>) -> Option<(u32, u32)> {
    let is_key_frame = body.u8(0)? & 1 == 0 && body.array(3)? == [0x9d, 0x01, 0x2a];
    // The two highest bits are a hint for scaling, which viewers ignore.
    let side = |at| body.u16_le(at).map(|side| u32::from(side & 0x3fff));
    Some((side(6)?, side(8)?)).filter(|_| is_key_frame)
}

#[cfg(test)]
mod tests;
