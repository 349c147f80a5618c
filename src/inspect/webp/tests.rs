use crate::{
    inspect::tests::dimensions,
    support::image::{orientation, webp},
};

#[test]
fn dimensions_are_those_of_the_first_chunk() {
    let lossless = (39_u32 + (29 << 14)).to_le_bytes();
    for (name, kind, body, expected) in [
        ("extended", *b"VP8X", vec![0, 0, 0, 0, 39, 0, 0, 29, 0, 0], Some((40, 30))),
        ("the largest canvas", *b"VP8X", [&[0; 4][..], &[0xff; 6]].concat(), Some((1 << 24, 1 << 24))),
        ("lossless", *b"VP8L", [&[0x2f][..], &lossless].concat(), Some((40, 30))),
        ("lossless without its signature", *b"VP8L", [&[0x2e][..], &lossless].concat(), None),
        ("lossless of another version", *b"VP8L", vec![0x2f, 0, 0, 0, 0x20], None),
        ("lossy", *b"VP8 ", b"\0\0\0\x9d\x01\x2a\x28\0\x1e\0".to_vec(), Some((40, 30))),
        (
            "lossy with a hint for scaling",
            *b"VP8 ",
            b"\0\0\0\x9d\x01\x2a\x28\x40\x1e\x80".to_vec(),
            Some((40, 30)),
        ),
        ("lossy of no width", *b"VP8 ", b"\0\0\0\x9d\x01\x2a\0\0\x1e\0".to_vec(), None),
        ("lossy without a key frame", *b"VP8 ", b"\x01\0\0\x9d\x01\x2a\x28\0\x1e\0".to_vec(), None),
        ("lossy without its start code", *b"VP8 ", vec![0; 10], None),
        ("truncated", *b"VP8X", vec![0, 0, 0, 0, 39, 0, 0, 29, 0], None),
        ("another chunk", *b"ALPH", vec![0; 10], None),
    ] {
        assert_eq!(dimensions(&webp(kind, &body)), expected, "{name}");
    }
}

#[test]
fn the_exif_orientation_is_ignored_as_browsers_do() {
    let canvas = webp(*b"VP8X", &[8, 0, 0, 0, 39, 0, 0, 29, 0, 0]);
    let metadata = orientation(6);
    let length = u32::try_from(metadata.len()).unwrap().to_le_bytes();
    let bytes = [&*canvas, b"EXIF", &length[..], &metadata].concat();
    assert_eq!(dimensions(&bytes), Some((40, 30)));
}
