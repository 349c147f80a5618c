use proptest::prelude::*;

use super::*;
use crate::support::image;

pub(super) fn dimensions(bytes: &[u8]) -> Option<(u32, u32)> {
    inspect_bytes(bytes).dimensions
}

#[test]
fn the_type_is_detected_by_magic_bytes() {
    let pdf: &[u8] = b"%PDF-1.7\n";
    for (bytes, expected) in [
        (image::jpeg(&[]), DetectedType::Photo("image/jpeg")),
        (image::png(1, 1, &[]), DetectedType::Photo("image/png")),
        (b"GIF89a\x01\0\x01\0".to_vec(), DetectedType::Photo("image/gif")),
        (image::webp(*b"VP8 ", &[]), DetectedType::Photo("image/webp")),
        (image::ftyp(&[b"heic", b"\0\0\0\0", b"mif1", b"heic"]), DetectedType::Photo("image/heic")),
        (image::ftyp(&[b"mif1", b"\0\0\0\0", b"mif1", b"heic"]), DetectedType::Photo("image/heic")),
        (image::ftyp(&[b"mif1", b"\0\0\0\0", b"mif1"]), DetectedType::Photo("image/heif")),
        (image::ftyp(&[b"avif", b"\0\0\0\0", b"mif1"]), DetectedType::Photo("image/avif")),
        (image::ftyp(&[b"mif1", b"\0\0\0\0", b"avif"]), DetectedType::Photo("image/avif")),
        (pdf.to_vec(), DetectedType::Other("application/pdf")),
        (b"PK\x03\x04\x14\0\0\0".to_vec(), DetectedType::Other("application/zip")),
        ([&b"\x7fELF\x02\x01\x01\0"[..], &[0; 56]].concat(), DetectedType::Other("application/x-executable")),
        (image::ftyp(&[b"isom", b"\0\0\0\0", b"mp41"]), DetectedType::Other("video/mp4")),
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

/// One valid file of each format, with its dimensions.
fn valid_files() -> Vec<(Vec<u8>, (u32, u32))> {
    let jpeg = [image::jpeg_exif(&image::orientation(6)), image::jpeg_frame(40, 30)];
    vec![
        (image::jpeg(&jpeg), (30, 40)),
        (image::png(40, 30, &[image::png_chunk(*b"eXIf", &image::orientation(8))]), (30, 40)),
        (image::gif((40, 30), (1, 2), (39, 28)), (40, 30)),
        (image::webp(*b"VP8X", &[0, 0, 0, 0, 39, 0, 0, 29, 0, 0]), (40, 30)),
        (image::heif(&[image::ispe(40, 30), image::irot(3)]), (30, 40)),
    ]
}

#[test]
fn dimensions_of_a_truncated_file_are_those_of_the_whole_file_or_unknown() {
    for (bytes, expected) in valid_files() {
        assert_eq!(dimensions(&bytes), Some(expected));
        for length in 0..bytes.len() {
            let truncated = dimensions(&bytes[..length]);
            // Without its orientation a PNG is displayed upright, and the sample may end before it.
            let upright = bytes.starts_with(b"\x89PNG").then_some((40, 30));
            assert!(truncated.is_none_or(|size| size == expected || Some(size) == upright), "{length}");
        }
    }
}

#[test]
fn a_budget_that_is_spent_leaves_the_dimensions_unknown() {
    let (jpeg, size) = valid_files().swap_remove(0);
    let budget = ReadBudget::default();
    let kind = DetectedType::detect(&jpeg);
    while budget.spent() + 32 < ReadBudget::MAX_READS {
        assert_eq!(read_dimensions(&jpeg, kind, &budget), Some(size));
    }
    while budget.spent() < ReadBudget::MAX_READS {
        let _ = read_dimensions(&jpeg, kind, &budget);
    }
    assert_eq!(read_dimensions(&jpeg, kind, &budget), None);
}

proptest! {
    #[test]
    fn any_bytes_after_a_valid_head_are_inspected_without_a_panic(
        head in prop::sample::select(valid_files()),
        length in 0..200_usize,
        noise in prop::collection::vec(any::<u8>(), 0..64),
    ) {
        let mut bytes = head.0;
        bytes.truncate(length.max(12));
        bytes.extend(noise);
        let _ = inspect_bytes(&bytes);
    }
}
