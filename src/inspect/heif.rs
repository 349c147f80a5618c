//! Dimensions of HEIF and AVIF files. ISO/IEC 23008-12, <https://aomediacodec.github.io/av1-avif/>

use super::{
    byte_view::{ByteView, MAX_ENTRIES},
    iso_box::{IsoBox, boxes, find_whole},
    transform,
};

/// Returns width and height of the primary item as displayed. The `meta` box must be within the sample; some
/// cameras write it after the pixels. Exif metadata is ignored, as the specification requires: the orientation
/// is a property. A grid of tiles has properties like any other item.
pub(super) fn dimensions(file: ByteView<'_>) -> Option<(u32, u32)> {
    let meta = find_whole(file, *b"meta")?.skip(4)?;
    let primary = read_primary_item(find_whole(meta, *b"pitm")?)?;
    if is_subordinate(meta, primary)? {
        return None;
    }
    let item_properties = find_whole(meta, *b"iprp")?;
    // At most `MAX_ENTRIES`, whatever the file declares.
    let all_properties: Vec<_> = boxes(find_whole(item_properties, *b"ipco")?).collect();
    let associations = boxes(item_properties)
        .filter(|child| child.kind == *b"ipma" && child.is_whole)
        .find_map(|child| Associations::find(child.body, primary))?;
    let properties = associations.resolve(&all_properties)?;
    let size = unique_size(&properties)?;
    properties.iter().try_fold(size, |size, property| transform::apply(property.kind, property.body, size))
}

fn read_primary_item(pitm: ByteView<'_>) -> Option<u32> {
    read_item_id(pitm, 4, pitm.u8(0)? == 0)
}

/// Whether a reference declares `item` to be a thumbnail or an auxiliary image of another one. Viewers then
/// display another item than the primary one.
fn is_subordinate(meta: ByteView<'_>, item: u32) -> Option<bool> {
    let Some(references) = find_whole(meta, *b"iref") else { return Some(false) };
    let is_short = references.u8(0)? == 0;
    let mut subordinates =
        boxes(references.skip(4)?).filter(|child| matches!(&child.kind, b"thmb" | b"auxl"));
    Some(subordinates.any(|child| read_item_id(child.body, 0, is_short) == Some(item)))
}

/// Item numbers have 16 bits in the first version of a box, and 32 bits in later ones.
fn read_item_id(view: ByteView<'_>, at: usize, is_short: bool) -> Option<u32> {
    if is_short { view.u16_be(at).map(u32::from) } else { view.u32_be(at) }
}

/// Returns the size before the transformations, unless properties contradict each other.
fn unique_size(properties: &[IsoBox<'_>]) -> Option<(u32, u32)> {
    let mut size = None;
    for property in properties.iter().filter(|property| property.kind == *b"ispe") {
        let declared = (property.body.u32_be(4)?, property.body.u32_be(8)?);
        if size.is_some_and(|size| size != declared) {
            return None;
        }
        size = Some(declared);
    }
    size
}

/// The properties of one item, as numbers of boxes in `ipco`.
struct Associations<'a> {
    view: ByteView<'a>,
    is_wide: bool,
}

impl<'a> Associations<'a> {
    /// Finds those of `item` in an `ipma` box.
    fn find(ipma: ByteView<'a>, item: u32) -> Option<Self> {
        let is_short = ipma.u8(0)? == 0;
        let is_wide = ipma.u8(3)? & 1 == 1;
        let (id_bytes, index_bytes) = (if is_short { 2 } else { 4 }, if is_wide { 2 } else { 1 });
        let count = usize::try_from(ipma.u32_be(4)?).ok()?;
        let mut at = 8;
        for _ in 0..count.min(MAX_ENTRIES) {
            let id = read_item_id(ipma, at, is_short)?;
            let start = at + id_bytes + 1;
            at = start + index_bytes * usize::from(ipma.u8(start - 1)?);
            if id == item {
                return Some(Self { view: ipma.slice(start..at)?, is_wide });
            }
        }
        None
    }

    /// Returns the properties in their order, at most 255. `None` if one of them does not exist.
    fn resolve(&self, properties: &[IsoBox<'a>]) -> Option<Vec<IsoBox<'a>>> {
        let count = self.view.len() / if self.is_wide { 2 } else { 1 };
        let indexes = (0..count).map(|position| self.read_index(position));
        // Index 0 is no property.
        let indexes = indexes.filter(|index| *index != Some(0));
        indexes
            .map(|index| properties.get(index? - 1).filter(|property| property.is_whole).copied())
            .collect()
    }

    /// Reads an index, whose highest bit declares the property essential.
    fn read_index(&self, position: usize) -> Option<usize> {
        if self.is_wide {
            self.view.u16_be(position * 2).map(|index| usize::from(index & 0x7fff))
        } else {
            self.view.u8(position).map(|index| usize::from(index & 0x7f))
        }
    }
}

#[cfg(test)]
mod tests;
