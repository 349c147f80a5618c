//! Builders of the first bytes of image files, valid and hostile.

/// A JPEG file with these segments before its pixels.
pub fn jpeg(segments: &[Vec<u8>]) -> Vec<u8> {
    let start_of_scan = jpeg_segment(0xda, &[1, 1, 0, 0, 63, 0]);
    [b"\xff\xd8", &*segments.concat(), &*start_of_scan, b"\0\xff\xd9"].concat()
}

pub fn jpeg_segment(marker: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len() + 2).unwrap();
    [&[0xff, marker], &length.to_be_bytes()[..], body].concat()
}

/// The header of a baseline frame.
pub fn jpeg_frame(width: u16, height: u16) -> Vec<u8> {
    let sides = [height.to_be_bytes(), width.to_be_bytes()].concat();
    jpeg_segment(0xc0, &[&[8], &*sides, &[1, 1, 0x11, 0]].concat())
}

pub fn jpeg_exif(tiff: &[u8]) -> Vec<u8> {
    jpeg_segment(0xe1, &[b"Exif\0\0", tiff].concat())
}

/// Exif metadata with these entries: tag, type, count and value.
pub fn tiff(entries: &[(u16, u16, u32, [u8; 4])]) -> Vec<u8> {
    let count = u16::try_from(entries.len()).unwrap();
    let mut bytes = [&b"MM\0*\0\0\0\x08"[..], &count.to_be_bytes()].concat();
    for (tag, kind, count, value) in entries {
        bytes.extend([&tag.to_be_bytes()[..], &kind.to_be_bytes(), &count.to_be_bytes(), value].concat());
    }
    bytes.extend([0; 4]);
    bytes
}

/// Exif metadata with this orientation.
pub fn orientation(value: u8) -> Vec<u8> {
    tiff(&[(0x0112, 3, 1, [0, value, 0, 0])])
}

/// Exif metadata of 64 KiB whose 5,440 entries each point to a directory that overlaps the others.
pub fn overlapping_directories() -> Vec<u8> {
    let offsets = (0..).flat_map(|entry: u32| [0, 1, 10, 11].map(|shift| 10 + 12 * entry + shift));
    let entries: Vec<_> = offsets.take(5440).map(|offset| (0x8769, 4, 1, offset.to_be_bytes())).collect();
    tiff(&entries)
}

/// A PNG file with these chunks after its header.
pub fn png(width: u32, height: u32, chunks: &[Vec<u8>]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[8, 0, 0, 0, 0]].concat();
    [b"\x89PNG\r\n\x1a\n", &*png_chunk(*b"IHDR", &header), &*chunks.concat()].concat()
}

/// A chunk, with a checksum that nothing verifies.
pub fn png_chunk(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap();
    [&length.to_be_bytes()[..], &kind, body, &[0; 4]].concat()
}

/// A GIF file whose first frame has these edges.
pub fn gif(screen: (u16, u16), left_top: (u16, u16), frame: (u16, u16)) -> Vec<u8> {
    let pair = |(first, second): (u16, u16)| [first.to_le_bytes(), second.to_le_bytes()].concat();
    let comment = b"\x21\xfe\x03abc\0";
    let descriptor = [b"\x2c", &*pair(left_top), &*pair(frame), b"\0"].concat();
    [b"GIF89a", &*pair(screen), b"\x80\0\0", &[0; 6], comment, &*descriptor].concat()
}

/// A WebP file with this first chunk.
pub fn webp(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len()).unwrap().to_le_bytes();
    [b"RIFF\xff\0\0\0WEBP", &kind[..], &length, body].concat()
}

/// A box of the ISO base media format.
pub fn iso_box(kind: [u8; 4], body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 8).unwrap();
    [&length.to_be_bytes()[..], &kind, body].concat()
}

/// A box with a version and flags.
pub fn full_box(kind: [u8; 4], version: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    iso_box(kind, &[&[version, 0, 0, flags], body].concat())
}

/// The box that identifies a file by its brands. The second one is the minor version.
pub fn ftyp(brands: &[&[u8; 4]]) -> Vec<u8> {
    iso_box(*b"ftyp", &brands.iter().flat_map(|brand| **brand).collect::<Vec<_>>())
}

/// A HEIF file whose primary item, number 1, has these properties in this order.
pub fn heif(properties: &[Vec<u8>]) -> Vec<u8> {
    let indexes: Vec<_> = (1..=u8::MAX).take(properties.len()).collect();
    heif_with(properties, &item_properties(&[(1, &indexes)]))
}

/// A HEIF file with these properties, and these boxes that associate them with items.
pub fn heif_with(properties: &[Vec<u8>], associations: &[u8]) -> Vec<u8> {
    let meta = heif_meta(1, properties, associations, &[]);
    [heif_brands(), meta, iso_box(*b"mdat", &[0; 16])].concat()
}

pub fn heif_brands() -> Vec<u8> {
    ftyp(&[b"heic", b"\0\0\0\0", b"mif1"])
}

pub fn heif_meta(primary: u16, properties: &[Vec<u8>], associations: &[u8], others: &[u8]) -> Vec<u8> {
    let primary = full_box(*b"pitm", 0, 0, &primary.to_be_bytes());
    let container = iso_box(*b"ipco", &properties.concat());
    let properties = iso_box(*b"iprp", &[&*container, associations].concat());
    full_box(*b"meta", 0, 0, &[&*primary, &*properties, others].concat())
}

/// The `ipma` box: items with the numbers of their properties.
pub fn item_properties(items: &[(u16, &[u8])]) -> Vec<u8> {
    let mut body = u32::try_from(items.len()).unwrap().to_be_bytes().to_vec();
    for (item, indexes) in items {
        body.extend(item.to_be_bytes());
        body.push(u8::try_from(indexes.len()).unwrap());
        body.extend(*indexes);
    }
    full_box(*b"ipma", 0, 0, &body)
}

/// The size of an item before its transformations.
pub fn ispe(width: u32, height: u32) -> Vec<u8> {
    full_box(*b"ispe", 0, 0, &[width.to_be_bytes(), height.to_be_bytes()].concat())
}

/// A rotation by so many quarters of a turn.
pub fn irot(quarters: u8) -> Vec<u8> {
    iso_box(*b"irot", &[quarters])
}

/// A crop: the fractions of width, height, and the two offsets of the center.
pub fn clap(fractions: [(i32, i32); 4]) -> Vec<u8> {
    let numbers =
        fractions.map(|(numerator, denominator)| [numerator.to_be_bytes(), denominator.to_be_bytes()]);
    iso_box(*b"clap", &numbers.concat().concat())
}
