use crate::{inspect::tests::dimensions, support::image::gif};

#[test]
fn dimensions_are_those_of_the_logical_screen() {
    assert_eq!(dimensions(&gif((320, 240), (0, 0), (320, 240))), Some((320, 240)));
    assert_eq!(dimensions(&gif((320, 240), (20, 40), (300, 200))), Some((320, 240)));
    assert_eq!(
        dimensions(b"GIF87a\x40\x01\xf0\0\0\0\0"),
        Some((320, 240)),
        "the first frame is beyond the sample"
    );
    assert_eq!(dimensions(&gif((0, 240), (0, 0), (0, 240))), None);
    assert_eq!(dimensions(b"GIF89a\x40\x01"), None);
}

#[test]
fn a_gif_whose_first_frame_exceeds_the_screen_has_unknown_dimensions() {
    for (left_top, frame) in
        [((0, 0), (321, 240)), ((0, 0), (320, 241)), ((1, 0), (320, 240)), ((0, 1), (1, 240))]
    {
        assert_eq!(dimensions(&gif((320, 240), left_top, frame)), None, "{left_top:?} {frame:?}");
    }
}
