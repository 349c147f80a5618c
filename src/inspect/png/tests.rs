use crate::{
    inspect::tests::dimensions,
    support::image::{orientation, png, png_chunk},
};

#[test]
fn dimensions_are_those_of_the_header() {
    assert_eq!(dimensions(&png(640, 480, &[])), Some((640, 480)));
    assert_eq!(dimensions(&png(0, 480, &[])), None);
    assert_eq!(dimensions(&png(640, 0, &[])), None);
    assert_eq!(dimensions(&png(640, 0x8000_0000, &[])), None);
    assert_eq!(dimensions(&png(640, 480, &[])[..28]), None);
    let other_first = [b"\x89PNG\r\n\x1a\n", &*png_chunk(*b"tEXt", &[0; 16])].concat();
    assert_eq!(dimensions(&other_first), None);
}

#[test]
fn a_png_of_the_variant_of_apple_has_its_header_in_the_second_chunk() {
    let standard = png(640, 480, &[]);
    let (signature, header) = standard.split_at(8);
    let variant = [signature, &*png_chunk(*b"CgBI", &[0x50, 0, 0x20, 2]), header].concat();
    assert_eq!(dimensions(&variant), Some((640, 480)));
}

#[test]
fn the_orientation_within_the_sample_applies() {
    let rotated = png_chunk(*b"eXIf", &orientation(6));
    let upright = png_chunk(*b"eXIf", &orientation(1));
    let pixels = png_chunk(*b"IDAT", &[0; 9]);
    let text = png_chunk(*b"tEXt", &[0; 90]);
    let end = png_chunk(*b"IEND", &[]);
    for (name, chunks, expected) in [
        ("before the pixels", vec![text.clone(), rotated.clone(), pixels.clone()], Some((30, 40))),
        ("upright", vec![upright.clone(), pixels.clone()], Some((40, 30))),
        ("upright after the pixels", vec![pixels.clone(), upright], Some((40, 30))),
        // Some viewers ignore it.
        ("after the pixels", vec![pixels.clone(), rotated.clone()], None),
        ("after the end", vec![pixels.clone(), end, rotated.clone()], Some((40, 30))),
        ("truncated", vec![rotated[..30].to_vec()], None),
        ("beyond the sample", vec![pixels[..12].to_vec()], Some((40, 30))),
        ("after 512 chunks", [vec![text; 512], vec![rotated]].concat(), None),
        ("512 chunks of pixels", vec![pixels; 600], Some((40, 30))),
        ("a huge chunk", vec![b"\xff\xff\xff\xfftEXt".to_vec()], Some((40, 30))),
    ] {
        assert_eq!(dimensions(&png(40, 30, &chunks)), expected, "{name}");
    }
}
