//! Detection of file types by magic bytes.

/// The type of a file, by its magic bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DetectedType {
    /// A photo, with its media type.
    Photo(&'static str),
    /// Another recognized type, with a description.
    Other(&'static str),
    /// Not recognized.
    Unknown,
}

impl DetectedType {
    /// Detects the type from the first bytes of a file.
    #[must_use]
    pub fn detect(first: &[u8]) -> Self {
        if let Some(photo) = detect_photo(first) {
            Self::Photo(photo)
        } else if looks_like_markup(first) {
            Self::Other("text/html or other markup")
        } else {
            infer::get(first).map_or(Self::Unknown, |other| Self::Other(other.mime_type()))
        }
    }

    /// Whether the type is one of the `accepted` media types. An unrecognized file is accepted as the type
    /// that its uploader declared, since a new format may be missing from the tables of magic bytes.
    #[must_use]
    pub fn is_accepted(self, accepted: &[String]) -> bool {
        let contains = |media_type: &str| accepted.iter().any(|accepted| accepted == media_type);
        match self {
            // Two names of one format, which phones and browsers use interchangeably.
            Self::Photo("image/heic" | "image/heif") => contains("image/heic") || contains("image/heif"),
            Self::Photo(media_type) | Self::Other(media_type) => contains(media_type),
            Self::Unknown => true,
        }
    }

    /// The media type, if it is a photo.
    #[must_use]
    pub fn photo_type(self) -> Option<&'static str> {
        match self {
            Self::Photo(media_type) => Some(media_type),
            Self::Other(_) | Self::Unknown => None,
        }
    }
}

fn detect_photo(first: &[u8]) -> Option<&'static str> {
    match first {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => detect_iso_photo(first),
        _ => None,
    }
}

/// Distinguishes HEIF and AVIF by the brands of the `ftyp` box: the major brand, or for a generic one the
/// first specific compatible brand.
///
/// <https://mp4ra.org/registered-types/brands>
fn detect_iso_photo(first: &[u8]) -> Option<&'static str> {
    let length = usize::try_from(u32::from_be_bytes(first.first_chunk().copied()?)).ok()?;
    let brands = first.get(8..length.min(first.len()))?;
    let (brands, _) = brands.as_chunks::<4>();
    let major = brands.first()?;
    // The second word is not a brand but the minor version.
    let specific =
        brands.iter().enumerate().filter(|(index, _)| *index != 1).find_map(|(_, brand)| match brand {
            b"avif" | b"avis" => Some("image/avif"),
            b"heic" | b"heix" | b"heim" | b"heis" => Some("image/heic"),
            _ => None,
        });
    match major {
        b"mif1" | b"msf1" | b"mif2" | b"miaf" => specific.or(Some("image/heif")),
        b"avif" | b"avis" | b"heic" | b"heix" | b"heim" | b"heis" => specific,
        _ => None,
    }
}

/// Whether a browser could render the file as HTML or SVG, which can run scripts. No photo format begins
/// with `<`.
fn looks_like_markup(first: &[u8]) -> bool {
    let first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first).trim_ascii_start();
    matches!(first, [b'<', next, ..] if next.is_ascii_alphabetic() || matches!(next, b'!' | b'?' | b'/'))
}
