use crate::{
    inspect::tests::dimensions,
    support::image::{jpeg, jpeg_exif, jpeg_frame, jpeg_segment, orientation},
};

#[test]
fn an_orientation_of_5_to_8_exchanges_width_and_height() {
    for value in 0..=9 {
        let expected = if (5..=8).contains(&value) { (30, 40) } else { (40, 30) };
        let bytes = jpeg(&[jpeg_exif(&orientation(value)), jpeg_frame(40, 30)]);
        assert_eq!(dimensions(&bytes), Some(expected), "{value}");
    }
    let little_endian = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
    assert_eq!(dimensions(&jpeg(&[jpeg_exif(little_endian), jpeg_frame(40, 30)])), Some((30, 40)));
}

#[test]
fn other_segments_and_fill_bytes_are_skipped() {
    let rotated = jpeg_exif(&orientation(6));
    let frame = jpeg_frame(40, 30);
    for (segments, expected) in [
        (vec![frame.clone()], (40, 30)),
        (vec![vec![0xff; 900], rotated.clone(), vec![0xff; 3], frame.clone()], (30, 40)),
        (
            vec![jpeg_segment(0xe1, b"http://ns.adobe.com/xap/1.0/\0"), rotated.clone(), frame.clone()],
            (30, 40),
        ),
        (vec![frame.clone(), rotated.clone()], (30, 40)),
        (vec![rotated.clone(), jpeg_exif(&orientation(1)), frame.clone()], (30, 40)),
        (vec![jpeg_segment(0xc4, &[0; 20]), frame.clone(), jpeg_segment(0xdb, &[0; 65])], (40, 30)),
        (vec![jpeg_segment(0xef, &[0; 65_000]), frame.clone()], (40, 30)),
        (vec![vec![0xff, 0x01], jpeg_segment(0xfe, b""), frame.clone()], (40, 30)),
    ] {
        assert_eq!(dimensions(&jpeg(&segments)), Some(expected));
    }
}

#[test]
fn a_jpeg_that_viewers_may_display_differently_has_unknown_dimensions() {
    let frame = jpeg_frame(40, 30);
    for segments in [
        vec![],
        vec![jpeg_frame(0, 30)],
        vec![jpeg_frame(40, 0)],
        vec![frame.clone(), jpeg_frame(20, 10)],
        vec![jpeg_segment(0xde, &[8, 0, 30, 0, 40, 0]), frame.clone()],
        vec![b"\xff\xd8".to_vec(), frame.clone()],
        vec![b"\xff\xd9".to_vec(), frame.clone()],
        vec![b"\xff\xe0\0\x01".to_vec(), frame.clone()],
        vec![b"junk".to_vec(), frame.clone()],
        vec![[0xff, 0xd0].repeat(512), frame.clone()],
    ] {
        assert_eq!(dimensions(&jpeg(&segments)), None, "{segments:?}");
    }
}

#[test]
fn a_jpeg_whose_pixels_are_beyond_the_sample_has_dimensions_only_with_its_orientation() {
    let without_pixels = |segments: &[Vec<u8>]| [b"\xff\xd8", &*segments.concat()].concat();
    let frame = jpeg_frame(40, 30);
    assert_eq!(dimensions(&without_pixels(std::slice::from_ref(&frame))), None);
    assert_eq!(dimensions(&without_pixels(&[frame, jpeg_exif(&orientation(6))])), Some((30, 40)));
}
