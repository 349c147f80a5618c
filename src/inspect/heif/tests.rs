use crate::{
    inspect::tests::dimensions,
    support::image::{
        clap, full_box, heif, heif_brands, heif_meta, heif_with, irot, iso_box, ispe, item_properties,
    },
};

/// Width and height of a crop whose center is that of the image.
fn centered(width: i32, height: i32) -> Vec<u8> {
    clap([(width, 1), (height, 1), (0, 1), (0, 1)])
}

#[test]
fn transformations_apply_in_their_order() {
    let mirror = || iso_box(*b"imir", &[1]);
    for (name, properties, expected) in [
        ("none", vec![ispe(40, 30)], Some((40, 30))),
        ("by 90°", vec![ispe(40, 30), irot(1)], Some((30, 40))),
        ("by 180°", vec![ispe(40, 30), irot(2)], Some((40, 30))),
        ("by 270°", vec![ispe(40, 30), irot(3)], Some((30, 40))),
        ("twice", vec![ispe(40, 30), irot(1), irot(3)], Some((40, 30))),
        ("mirrored", vec![ispe(40, 30), mirror(), irot(1)], Some((30, 40))),
        ("cropped, then rotated", vec![ispe(40, 30), centered(20, 10), irot(1)], Some((10, 20))),
        ("rotated, then cropped", vec![ispe(40, 30), irot(1), centered(20, 10)], Some((20, 10))),
        ("cropped to more than the rotated image", vec![ispe(40, 30), irot(1), centered(40, 10)], None),
        ("the size is last", vec![irot(1), ispe(40, 30)], Some((30, 40))),
        ("no size", vec![irot(1)], None),
        ("the size of nothing", vec![ispe(0, 30)], None),
        ("two sizes", vec![ispe(40, 30), ispe(20, 10)], None),
        ("the same size twice", vec![ispe(40, 30), ispe(40, 30)], Some((40, 30))),
        ("scaled", vec![ispe(40, 30), full_box(*b"iscl", 0, 0, &[0; 8])], None),
        ("a truncated rotation", vec![ispe(40, 30), iso_box(*b"irot", &[])], None),
    ] {
        assert_eq!(dimensions(&heif(&properties)), expected, "{name}");
    }
}

#[test]
fn only_a_crop_to_whole_pixels_within_the_image_applies() {
    let zero = (0, 1);
    for (fractions, expected) in [
        ([(20, 1), (10, 1), zero, zero], Some((20, 10))),
        ([(40, 2), (30, 3), zero, zero], Some((20, 10))),
        ([(39, 1), (29, 1), (1, 2), (-1, 2)], Some((39, 29))),
        ([(39, 1), (29, 1), (3, 2), zero], None),
        ([(39, 1), (29, 1), zero, (-3, 2)], None),
        ([(39, 2), (10, 1), zero, zero], None),
        ([(41, 1), (10, 1), zero, zero], None),
        ([(-1, 1), (10, 1), zero, zero], None),
        ([(20, 0), (10, 1), zero, zero], None),
        ([(20, 1), (10, 1), (0, 0), zero], None),
        ([(20, 1), (10, 1), (i32::MIN, 1), zero], None),
        ([(0, 1), (10, 1), zero, zero], None),
    ] {
        assert_eq!(dimensions(&heif(&[ispe(40, 30), clap(fractions)])), expected, "{fractions:?}");
    }
}

#[test]
fn dimensions_are_those_of_the_primary_item() {
    let properties = [ispe(512, 512), ispe(40, 30), irot(1)];
    // A tile, the grid, and a thumbnail.
    let items = item_properties(&[(7, &[1]), (1, &[2, 0x83]), (9, &[1])]);
    assert_eq!(dimensions(&heif_with(&properties, &items)), Some((30, 40)));
    let separate = [item_properties(&[(7, &[1])]), item_properties(&[(1, &[0, 2])])].concat();
    assert_eq!(dimensions(&heif_with(&properties, &separate)), Some((40, 30)));
    // Numbers of 32 and 16 bits.
    let wide = full_box(*b"ipma", 1, 1, &[0, 0, 0, 1, 0, 0, 0, 1, 2, 0, 2, 0x80, 3]);
    assert_eq!(dimensions(&heif_with(&properties, &wide)), Some((30, 40)));
    for (name, associations) in [
        ("no association", item_properties(&[(2, &[2])])),
        ("a property that does not exist", item_properties(&[(1, &[2, 4])])),
        ("more items than the box holds", full_box(*b"ipma", 0, 0, &[0xff, 0xff, 0xff, 0xff, 0, 7, 1, 1])),
        ("item 513", item_properties(&[vec![(7, &[1][..]); 512], vec![(1, &[2])]].concat())),
    ] {
        assert_eq!(dimensions(&heif_with(&properties, &associations)), None, "{name}");
    }
}

#[test]
fn a_primary_item_that_is_the_thumbnail_of_another_has_unknown_dimensions() {
    for (kind, item, expected) in [
        (*b"thmb", 1, None),
        (*b"auxl", 1, None),
        (*b"dimg", 1, Some((40, 30))),
        (*b"thmb", 2, Some((40, 30))),
    ] {
        let reference = iso_box(kind, &[0, item, 0, 1, 0, 3]);
        let references = full_box(*b"iref", 0, 0, &reference);
        let meta = heif_meta(1, &[ispe(40, 30)], &item_properties(&[(1, &[1])]), &references);
        assert_eq!(dimensions(&[heif_brands(), meta].concat()), expected, "{kind:?} {item}");
    }
}

#[test]
fn metadata_after_the_pixels_is_used_if_it_is_within_the_sample() {
    let meta = heif_meta(1, &[ispe(40, 30)], &item_properties(&[(1, &[1])]), &[]);
    let file = [heif_brands(), iso_box(*b"mdat", &[0; 900]), meta].concat();
    assert_eq!(dimensions(&file), Some((40, 30)));
    assert_eq!(dimensions(&file[..file.len() - 1]), None);
    assert_eq!(dimensions(&file[..500]), None);
}

#[test]
fn malformed_boxes_leave_the_dimensions_unknown() {
    let meta = |size: &[u8]| [&*heif_brands(), size, b"meta", &[0; 64]].concat();
    for bytes in [
        meta(&[0; 4]),
        meta(&[0, 0, 0, 1]),
        meta(&[0, 0, 0, 7]),
        meta(&[0xff; 4]),
        [&meta(&[0, 0, 0, 1])[..28], &[0xff; 8], &[0; 64]].concat(),
    ] {
        assert_eq!(dimensions(&bytes), None, "{bytes:?}");
    }
    // A 64-bit size, and one that extends to the end of the file.
    let body = &heif_meta(1, &[ispe(40, 30)], &item_properties(&[(1, &[1])]), &[])[8..];
    let size = u64::try_from(body.len() + 16).unwrap().to_be_bytes();
    assert_eq!(dimensions(&[&*heif_brands(), b"\0\0\0\x01meta", &size[..], body].concat()), Some((40, 30)));
    assert_eq!(dimensions(&[&*heif_brands(), b"\0\0\0\0meta", body].concat()), Some((40, 30)));
}
