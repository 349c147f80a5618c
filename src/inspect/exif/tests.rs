use crate::{
    inspect::tests::dimensions,
    support::image::{jpeg, jpeg_exif, jpeg_frame, orientation, overlapping_directories, tiff},
};

const ORIENTATION: u16 = 0x0112;

#[test]
fn only_an_orientation_that_every_viewer_interprets_alike_is_used() {
    let short = |value| (ORIENTATION, 3, 1, [0, value, 0, 0]);
    let rotated = orientation(6);
    let other = (0x0100, 3, 1, [0; 4]);
    let after = |count| [vec![other; count], vec![short(6)]].concat();
    for (name, metadata, expected) in [
        ("empty", vec![], Some((40, 30))),
        ("no TIFF", b"XX*\0\0\0\0\x08".to_vec(), Some((40, 30))),
        ("a directory beyond the end", b"MM\0*\xff\xff\xff\xff".to_vec(), Some((40, 30))),
        ("the directory is the header", b"MM\0*\0\0\0\0".to_vec(), Some((40, 30))),
        ("no entries", tiff(&[]), Some((40, 30))),
        ("truncated before the orientation", rotated[..12].to_vec(), Some((40, 30))),
        ("truncated upright", [b"MM\0*\0\0\0\x08\0\x02", &orientation(1)[10..22]].concat(), Some((40, 30))),
        ("truncated after the orientation", [b"MM\0*\0\0\0\x08\0\x02", &rotated[10..22]].concat(), None),
        ("twice the same", tiff(&[short(6), short(6)]), Some((30, 40))),
        ("two that differ", tiff(&[short(6), short(1)]), None),
        ("of another type, upright", tiff(&[(ORIENTATION, 9, 1, [0, 0, 0, 1])]), Some((40, 30))),
        ("of another type, rotated", tiff(&[(ORIENTATION, 4, 1, [0, 0, 0, 6])]), None),
        ("two values", tiff(&[(ORIENTATION, 3, 2, [0, 6, 0, 6])]), None),
        ("the last of 512 entries", tiff(&after(511)), Some((30, 40))),
        ("entry 513", tiff(&after(512)), None),
        ("overlapping directories", overlapping_directories(), None),
    ] {
        let bytes = jpeg(&[jpeg_frame(40, 30), jpeg_exif(&metadata)]);
        assert_eq!(dimensions(&bytes), expected, "{name}");
    }
}
