//! The inspection of any bytes, hostile ones too, is bounded in memory and work.

#![allow(clippy::unwrap_used)]

mod support;

use std::{
    fs, iter,
    path::Path,
    sync::{Mutex, PoisonError},
};

use peak_alloc::PeakAlloc;
use photoshare_server::inspect::{DetectedType, ReadBudget, read_dimensions};
use proptest::prelude::*;
use support::image::{
    full_box, gif, heif, heif_brands, heif_with, irot, iso_box, ispe, item_properties, jpeg, jpeg_exif,
    jpeg_frame, jpeg_segment, overlapping_directories, png, png_chunk, tiff, webp,
};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// The limit of what an inspection may allocate besides the sample.
const MAX_ALLOCATED: usize = 1 << 20;
const SAMPLE_BYTES: usize = 64 * 1024;

/// One inspection at a time is measured, since the allocator counts those of all threads.
static MEASURING: Mutex<()> = Mutex::new(());

/// What an inspection resulted in and cost.
struct Measured {
    dimensions: Option<(u32, u32)>,
    allocated: usize,
    reads: u32,
}

fn measure(bytes: &[u8]) -> Measured {
    let sample = &bytes[..bytes.len().min(SAMPLE_BYTES)];
    let budget = ReadBudget::default();
    let (dimensions, allocated) =
        measure_allocated(|| read_dimensions(sample, DetectedType::detect(sample), &budget));
    Measured { dimensions, allocated, reads: budget.spent() }
}

/// The result of `run`, and the most bytes that it held at once.
fn measure_allocated<T>(run: impl FnOnce() -> T) -> (T, usize) {
    let _guard = MEASURING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = ALLOCATOR.current_usage();
    ALLOCATOR.reset_peak_usage();
    let result = run();
    (result, ALLOCATOR.peak_usage().saturating_sub(before))
}

#[test]
fn what_is_allocated_and_freed_again_is_measured() {
    let ((), allocated) = measure_allocated(|| drop(std::hint::black_box(vec![1_u8; 2 * MAX_ALLOCATED])));
    assert!(allocated >= 2 * MAX_ALLOCATED, "{allocated} bytes");
}

fn repeat(bytes: &[u8]) -> Vec<u8> {
    bytes.iter().copied().cycle().take(SAMPLE_BYTES).collect()
}

/// Boxes of this kind, each within the one before.
fn nested_boxes(kind: [u8; 4]) -> Vec<u8> {
    let sizes = (0..8000_u32).map(|depth| (64_000 - depth * 8).to_be_bytes());
    sizes.flat_map(|size| [size, kind].concat()).collect()
}

fn hostile_jpegs() -> Vec<(&'static str, Vec<u8>)> {
    let with_exif = |tiff: &[u8]| jpeg(&[jpeg_frame(16, 16), jpeg_exif(tiff)]);
    vec![
        ("overlapping directories", with_exif(&overlapping_directories())),
        ("a directory that is its own header", with_exif(b"MM\0*\0\0\0\0")),
        (
            "entries that point to their own directory",
            with_exif(&tiff(&[(0x8769, 4, 1, [0, 0, 0, 8]); 5000])),
        ),
        ("a value of 4 GiB", with_exif(&tiff(&[(0x0112, 3, u32::MAX, [0, 0, 0, 8])]))),
        ("a maximum count of entries", with_exif(b"MM\0*\0\0\0\x08\xff\xff")),
        ("many metadata segments", jpeg(&vec![jpeg_exif(&tiff(&[])); 2500])),
        ("many empty segments", jpeg(&vec![jpeg_segment(0xe0, &[]); 16_000])),
        ("many markers without a segment", jpeg(&[repeat(&[0xff, 0xd0])])),
        ("fill bytes only", jpeg(&[repeat(&[0xff])])),
        ("many frames", jpeg(&vec![jpeg_frame(16, 16); 4000])),
    ]
}

fn hostile_boxes() -> Vec<(&'static str, Vec<u8>)> {
    let empty_box = iso_box(*b"free", &[]);
    let all_properties: Vec<u8> = (0..255).map(|index| index % 128).collect();
    let items: Vec<(u16, &[u8])> = iter::repeat_n((7, &all_properties[..]), 200).collect();
    let max_count = |body: &[u8]| full_box(*b"ipma", 0, 0, &[&[0xff; 4], body].concat());
    vec![
        ("many boxes", [heif_brands(), repeat(&empty_box)].concat()),
        (
            "many properties",
            heif(&vec![ispe(16, 16); 200].into_iter().chain(vec![irot(1); 55]).collect::<Vec<_>>()),
        ),
        (
            "many properties of no item",
            heif_with(&vec![empty_box.clone(); 8000], &item_properties(&[(1, &[1])])),
        ),
        ("many items", heif_with(&[ispe(16, 16)], &item_properties(&vec![(7, &[1][..]); 12_000]))),
        ("many associations", heif_with(&[ispe(16, 16)], &item_properties(&items))),
        ("many association boxes", heif_with(&[ispe(16, 16)], &item_properties(&[(7, &[1])]).repeat(3000))),
        ("a maximum count of items", heif_with(&[ispe(16, 16)], &max_count(&repeat(&[0, 7, 0])[..60_000]))),
        ("nested boxes", [heif_brands(), nested_boxes(*b"meta")].concat()),
        ("nested properties", heif_with(&[nested_boxes(*b"ipco")], &nested_boxes(*b"iprp"))),
        ("a size of 2^64 - 1", [&*heif_brands(), b"\0\0\0\x01meta", &[0xff; 8], &[0; 900]].concat()),
        (
            "sizes that end where they begin",
            [heif_brands(), repeat(b"\0\0\0\x01meta\0\0\0\0\0\0\0\0")].concat(),
        ),
    ]
}

fn hostile_others() -> Vec<(&'static str, Vec<u8>)> {
    let chunk = png_chunk(*b"tEXt", &[]);
    let (gif_head, extension) = (&gif((16, 16), (0, 0), (16, 16))[..19], b"\x21\xfe\0");
    vec![
        ("many chunks", png(16, 16, &vec![chunk.clone(); 5400])),
        ("a chunk of 4 GiB", png(16, 16, &[b"\xff\xff\xff\xffeXIf".to_vec()])),
        (
            "overlapping directories in PNG",
            png(16, 16, &[png_chunk(*b"eXIf", &overlapping_directories()[..60_000])]),
        ),
        ("many extensions", [gif_head, &repeat(extension)].concat()),
        ("many sub-blocks", [gif_head, b"\x21\xfe", &repeat(&[1])].concat()),
        (
            "extensions of many sub-blocks",
            [gif_head, &repeat(&[&extension[..2], &[1; 256], &[0]].concat())].concat(),
        ),
        ("a chunk of 4 GiB in WebP", webp(*b"VP8X", &[0xff; 10])),
    ]
}

#[test]
fn hostile_files_are_inspected_in_bounded_memory_and_work() {
    for (name, bytes) in [hostile_jpegs(), hostile_boxes(), hostile_others()].concat() {
        let measured = measure(&bytes);
        assert!(measured.allocated <= MAX_ALLOCATED, "{name}: {} bytes", measured.allocated);
        assert!(measured.reads <= ReadBudget::MAX_READS, "{name}: {} reads", measured.reads);
    }
}

#[test]
fn the_work_does_not_grow_with_what_a_file_declares() {
    // Each list is cut off at 512 entries, which take up to four reads each.
    for (name, bytes) in [hostile_jpegs(), hostile_boxes()].concat() {
        let reads = measure(&bytes).reads;
        assert!(reads <= 4096, "{name}: {reads} reads");
    }
    assert_eq!(measure(&jpeg(&[jpeg_frame(40, 30)])).dimensions, Some((40, 30)));
}

/// Small real files, which also seed the fuzzer.
fn real_files() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/image_head");
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| fs::read(path).unwrap()).collect()
}

#[test]
fn real_files_have_their_dimensions() {
    for file in real_files() {
        let measured = measure(&file);
        assert_eq!(measured.dimensions, Some((24, 16)));
        assert!(measured.allocated <= MAX_ALLOCATED && measured.reads < 300);
    }
}

fn assert_bounded(bytes: &[u8]) -> Result<(), TestCaseError> {
    let measured = measure(bytes);
    prop_assert!(measured.allocated <= MAX_ALLOCATED, "{} bytes", measured.allocated);
    prop_assert!(measured.reads <= ReadBudget::MAX_READS);
    prop_assert!(measured.dimensions.is_none_or(|(width, height)| width > 0 && height > 0));
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_inspected_in_bounded_memory(
        magic in prop::sample::select(vec![
            b"".to_vec(), b"\xff\xd8\xff".to_vec(), b"\x89PNG\r\n\x1a\n".to_vec(), b"GIF89a".to_vec(),
            b"RIFF\0\0\0\0WEBP".to_vec(), heif_brands(),
        ]),
        noise in prop::collection::vec(any::<u8>(), 0..4096),
    ) {
        assert_bounded(&[magic, noise].concat())?;
    }

    #[test]
    fn mutated_real_files_are_inspected_in_bounded_memory(
        file in prop::sample::select(real_files()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
        length in any::<prop::sample::Index>(),
        repetitions in 1..40_usize,
    ) {
        let mut bytes = file.clone();
        for (index, value) in changes {
            bytes[index.index(file.len())] = value;
        }
        // A part of the file, repeated, makes long lists of what the part contains.
        let start = length.index(bytes.len());
        let tail = bytes.split_off(start).repeat(repetitions);
        assert_bounded(&[bytes, tail].concat())?;
    }
}
