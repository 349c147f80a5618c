use proptest::prelude::*;

use super::*;

/// A JPEG of `width` by `height` with this Exif orientation.
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
fn the_type_is_detected_by_magic_bytes() {
    let pdf: &[u8] = b"%PDF-1.7\n";
    for (bytes, expected) in [
        (jpeg(1, 1, None), DetectedType::Photo("image/jpeg")),
        (png(1, 1), DetectedType::Photo("image/png")),
        (b"GIF89a\x01\0\x01\0".to_vec(), DetectedType::Photo("image/gif")),
        (b"RIFF\x10\0\0\0WEBPVP8 ".to_vec(), DetectedType::Photo("image/webp")),
        (iso(&[b"heic", b"\0\0\0\0", b"mif1", b"heic"]), DetectedType::Photo("image/heic")),
        (iso(&[b"mif1", b"\0\0\0\0", b"mif1", b"heic"]), DetectedType::Photo("image/heic")),
        (iso(&[b"mif1", b"\0\0\0\0", b"mif1"]), DetectedType::Photo("image/heif")),
        (iso(&[b"avif", b"\0\0\0\0", b"mif1"]), DetectedType::Photo("image/avif")),
        (iso(&[b"mif1", b"\0\0\0\0", b"avif"]), DetectedType::Photo("image/avif")),
        (pdf.to_vec(), DetectedType::Other("application/pdf")),
        (b"PK\x03\x04\x14\0\0\0".to_vec(), DetectedType::Other("application/zip")),
        ([&b"\x7fELF\x02\x01\x01\0"[..], &[0; 56]].concat(), DetectedType::Other("application/x-executable")),
        (iso(&[b"isom", b"\0\0\0\0", b"mp41"]), DetectedType::Other("video/mp4")),
        (b"some words".to_vec(), DetectedType::Unknown),
        (Vec::new(), DetectedType::Unknown),
    ] {
        assert_eq!(DetectedType::detect(&bytes), expected, "{:?}", &bytes[..bytes.len().min(24)]);
    }
    for markup in
        ["<svg xmlns='x'/>", "\u{feff} \n<!DOCTYPE html>", "<?xml version='1.0'?><svg/>", "<!-- -->"]
    {
        assert!(matches!(DetectedType::detect(markup.as_bytes()), DetectedType::Other(_)), "{markup}");
    }
}

#[test]
fn accepted_and_unrecognized_types_are_accepted() {
    let accepted = ["image/jpeg".to_owned(), "image/heic".to_owned()];
    for (kind, expected) in [
        (DetectedType::Photo("image/jpeg"), true),
        (DetectedType::Photo("image/png"), false),
        (DetectedType::Photo("image/heif"), true),
        (DetectedType::Other("application/pdf"), false),
        (DetectedType::Unknown, true),
    ] {
        assert_eq!(kind.is_accepted(&accepted), expected, "{kind:?}");
    }
}

#[test]
fn dimensions_respect_the_exif_orientation() {
    for (orientation, expected) in
        [(None, (40, 30)), (Some(1), (40, 30)), (Some(3), (40, 30)), (Some(6), (30, 40)), (Some(8), (30, 40))]
    {
        assert_eq!(inspect_bytes(&jpeg(40, 30, orientation)).dimensions, Some(expected), "{orientation:?}");
    }
    assert_eq!(inspect_bytes(&png(640, 480)).dimensions, Some((640, 480)));
    assert_eq!(inspect_bytes(b"GIF89a\x40\x01\xf0\0\0\0\0").dimensions, Some((320, 240)));
}

#[test]
fn heif_is_rotated_only_by_its_own_box() {
    let heif = |rotation: &[u8]| {
        let size = iso_box(*b"ispe", &[0, 0, 0, 0, 0, 0, 0, 40, 0, 0, 0, 30]);
        let properties = iso_box(*b"ipco", &[size, rotation.to_vec()].concat());
        let meta = iso_box(*b"meta", &[vec![0; 4], iso_box(*b"iprp", &properties)].concat());
        [iso(&[b"heic", b"\0\0\0\0", b"mif1"]), meta, iso_box(*b"mdat", &[0; 16])].concat()
    };
    assert_eq!(inspect_bytes(&heif(&[])).dimensions, Some((40, 30)));
    assert_eq!(inspect_bytes(&heif(&iso_box(*b"irot", &[1]))).dimensions, Some((30, 40)));
}

#[test]
fn dimensions_that_can_not_be_read_are_none() {
    for bytes in [&jpeg(40, 30, None)[..6], &jpeg(0, 30, None), &png(1, 1)[..12], b"RIFF\0\0\0\0WEBP"] {
        let inspection = inspect_bytes(bytes);
        assert!(inspection.detected_type.photo_type().is_some());
        assert_eq!(inspection.dimensions, None, "{bytes:?}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_inspected_without_a_panic(
        head in prop::sample::select(vec![
            jpeg(40, 30, Some(6)), png(1, 1), b"GIF89a".to_vec(), b"RIFF\xff\0\0\0WEBPVP8 ".to_vec(),
            b"RIFF\xff\0\0\0WEBPVP8X".to_vec(), iso(&[b"heic", b"\0\0\0\0", b"mif1"]),
        ]),
        length in 0..64_usize,
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = head;
        bytes.truncate(length.max(12));
        bytes.extend(noise);
        let _ = inspect_bytes(&bytes);
    }
}
