use proptest::prelude::*;

use super::*;

/// A JPEG of `width` by `height` whose Exif says `orientation`.
fn jpeg(width: u16, height: u16, orientation: Option<u8>) -> Vec<u8> {
    let mut bytes = vec![0xff, 0xd8];
    if let Some(orientation) = orientation {
        let mut exif = b"Exif\0\0MM\0\x2a\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0".to_vec();
        exif.extend([orientation, 0, 0, 0, 0, 0, 0]);
        segment(&mut bytes, 0xe1, &exif);
    }
    let ([wh, wl], [hh, hl]) = (width.to_be_bytes(), height.to_be_bytes());
    segment(&mut bytes, 0xc0, &[8, hh, hl, wh, wl, 1, 1, 0x11, 0]);
    segment(&mut bytes, 0xda, &[1, 1, 0, 0, 63, 0]);
    bytes.extend([0, 0xff, 0xd9]);
    bytes
}

fn segment(bytes: &mut Vec<u8>, marker: u8, body: &[u8]) {
    let length = u16::try_from(body.len() + 2).unwrap();
    bytes.extend([0xff, marker]);
    bytes.extend(length.to_be_bytes());
    bytes.extend(body);
}

fn png(width: u32, height: u32) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR".to_vec();
    bytes.extend(width.to_be_bytes());
    bytes.extend(height.to_be_bytes());
    bytes.extend([8, 0, 0, 0, 0, 0, 0, 0, 0]);
    bytes
}

fn iso(brands: &[&[u8; 4]]) -> Vec<u8> {
    let length = u32::try_from(8 + 4 * brands.len()).unwrap();
    let mut bytes = length.to_be_bytes().to_vec();
    bytes.extend(b"ftyp");
    bytes.extend(brands.iter().flat_map(|brand| brand.iter()));
    bytes
}

/// A box of the ISO base media format.
fn iso_box(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(body.len() + 8).unwrap().to_be_bytes().to_vec();
    bytes.extend(kind);
    bytes.extend(body);
    bytes
}

#[test]
fn the_magic_bytes_tell_what_it_is() {
    let pdf: &[u8] = b"%PDF-1.7\n";
    for (bytes, expected) in [
        (jpeg(1, 1, None), Kind::Photo("image/jpeg")),
        (png(1, 1), Kind::Photo("image/png")),
        (b"GIF89a\x01\0\x01\0".to_vec(), Kind::Photo("image/gif")),
        (b"RIFF\x10\0\0\0WEBPVP8 ".to_vec(), Kind::Photo("image/webp")),
        (iso(&[b"heic", b"\0\0\0\0", b"mif1", b"heic"]), Kind::Photo("image/heic")),
        (iso(&[b"mif1", b"\0\0\0\0", b"mif1", b"heic"]), Kind::Photo("image/heic")),
        (iso(&[b"mif1", b"\0\0\0\0", b"mif1"]), Kind::Photo("image/heif")),
        (iso(&[b"avif", b"\0\0\0\0", b"mif1"]), Kind::Photo("image/avif")),
        (iso(&[b"mif1", b"\0\0\0\0", b"avif"]), Kind::Photo("image/avif")),
        (pdf.to_vec(), Kind::Other("application/pdf")),
        (b"PK\x03\x04\x14\0\0\0".to_vec(), Kind::Other("application/zip")),
        ([&b"\x7fELF\x02\x01\x01\0"[..], &[0; 56]].concat(), Kind::Other("application/x-executable")),
        (iso(&[b"isom", b"\0\0\0\0", b"mp41"]), Kind::Other("video/mp4")),
        (b"some words".to_vec(), Kind::Unknown),
        (Vec::new(), Kind::Unknown),
    ] {
        assert_eq!(Kind::of(&bytes), expected, "{:?}", &bytes[..bytes.len().min(24)]);
    }
    for markup in
        ["<svg xmlns='x'/>", "\u{feff} \n<!DOCTYPE html>", "<?xml version='1.0'?><svg/>", "<!-- -->"]
    {
        assert!(matches!(Kind::of(markup.as_bytes()), Kind::Other(_)), "{markup}");
    }
}

#[test]
fn what_is_taken_is_what_the_server_takes_or_what_nobody_knows() {
    let taken = ["image/jpeg".to_owned(), "image/heic".to_owned()];
    for (kind, expected) in [
        (Kind::Photo("image/jpeg"), true),
        (Kind::Photo("image/png"), false),
        (Kind::Photo("image/heif"), true),
        (Kind::Other("application/pdf"), false),
        (Kind::Unknown, true),
    ] {
        assert_eq!(kind.is_taken(&taken), expected, "{kind:?}");
    }
}

#[test]
fn width_and_height_are_those_that_are_shown() {
    for (orientation, expected) in
        [(None, (40, 30)), (Some(1), (40, 30)), (Some(3), (40, 30)), (Some(6), (30, 40)), (Some(8), (30, 40))]
    {
        assert_eq!(inspect(&jpeg(40, 30, orientation)).dimensions, Some(expected), "{orientation:?}");
    }
    assert_eq!(inspect(&png(640, 480)).dimensions, Some((640, 480)));
    assert_eq!(inspect(b"GIF89a\x40\x01\xf0\0\0\0\0").dimensions, Some((320, 240)));
}

#[test]
fn heif_is_turned_by_its_own_box_alone() {
    let heif = |turn: &[u8]| {
        let size = iso_box(*b"ispe", &[0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 30]);
        let properties = iso_box(*b"ipco", &[size, turn.to_vec()].concat());
        let meta = iso_box(*b"meta", &[vec![0; 4], iso_box(*b"iprp", &properties)].concat());
        [iso(&[b"heic", b"\0\0\0\0", b"mif1"]), meta, iso_box(*b"mdat", &[0; 16])].concat()
    };
    assert_eq!(inspect(&heif(&[])).dimensions, Some((40, 30)));
    assert_eq!(inspect(&heif(&iso_box(*b"irot", &[1]))).dimensions, Some((30, 40)));
}

#[test]
fn dimensions_that_can_not_be_read_are_left_out() {
    for bytes in [&jpeg(40, 30, None)[..6], &jpeg(0, 30, None), &png(1, 1)[..12], b"RIFF\0\0\0\0WEBP"] {
        let findings = inspect(bytes);
        assert!(findings.kind.photo().is_some());
        assert_eq!(findings.dimensions, None, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn no_bytes_break_it(
        head in prop::sample::select(vec![
            jpeg(40, 30, Some(6)), png(1, 1), b"GIF89a".to_vec(), b"RIFF\xff\0\0\0WEBPVP8 ".to_vec(),
            b"RIFF\xff\0\0\0WEBPVP8X".to_vec(), iso(&[b"heic", b"\0\0\0\0", b"mif1"]),
        ]),
        at in 0..64_usize,
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = head;
        bytes.truncate(at.max(12));
        bytes.extend(noise);
        let _ = inspect(&bytes);
    }
}
