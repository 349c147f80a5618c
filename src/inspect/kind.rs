//! What a file is, by its magic bytes.

/// What a file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A photo of this media type.
    Photo(&'static str),
    /// Recognisably something else.
    Other(&'static str),
    /// Nothing that is known.
    Unknown,
}

impl Kind {
    /// What `first`, the beginning of a file, says.
    #[must_use]
    pub fn of(first: &[u8]) -> Self {
        if let Some(photo) = photo(first) {
            Self::Photo(photo)
        } else if is_markup(first) {
            Self::Other("text/html or another markup")
        } else {
            infer::get(first).map_or(Self::Unknown, |other| Self::Other(other.mime_type()))
        }
    }

    /// Whether a server that takes the media types `taken` takes this. What is not recognised at all
    /// passes as what its uploader said it is: formats are younger than tables of magic bytes.
    #[must_use]
    pub fn is_taken(self, taken: &[String]) -> bool {
        let named = |kind: &str| taken.iter().any(|taken| taken == kind);
        match self {
            // One format under two names, which phones and browsers give as they like.
            Self::Photo("image/heic" | "image/heif") => named("image/heic") || named("image/heif"),
            Self::Photo(kind) | Self::Other(kind) => named(kind),
            Self::Unknown => true,
        }
    }

    /// The media type of a photo.
    #[must_use]
    pub fn photo(self) -> Option<&'static str> {
        match self {
            Self::Photo(kind) => Some(kind),
            Self::Other(_) | Self::Unknown => None,
        }
    }
}

fn photo(first: &[u8]) -> Option<&'static str> {
    match first {
        [0xff, 0xd8, 0xff, ..] => Some("image/jpeg"),
        [0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n', ..] => Some("image/png"),
        [b'G', b'I', b'F', b'8', b'7' | b'9', b'a', ..] => Some("image/gif"),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => Some("image/webp"),
        [_, _, _, _, b'f', b't', b'y', b'p', ..] => iso_photo(first),
        _ => None,
    }
}

/// HEIF and AVIF are told apart by their brands: the major one, else the first telling compatible one.
/// <https://mp4ra.org/registered-types/brands>
fn iso_photo(first: &[u8]) -> Option<&'static str> {
    let length = usize::try_from(u32::from_be_bytes(first.first_chunk().copied()?)).ok()?;
    let brands = first.get(8..length.min(first.len()))?;
    let (brands, _) = brands.as_chunks::<4>();
    let major = brands.first()?;
    // The second of the four-letter words is the minor version.
    let telling =
        brands.iter().enumerate().filter(|(index, _)| *index != 1).find_map(|(_, brand)| match brand {
            b"avif" | b"avis" => Some("image/avif"),
            b"heic" | b"heix" | b"heim" | b"heis" => Some("image/heic"),
            _ => None,
        });
    match major {
        b"mif1" | b"msf1" | b"mif2" | b"miaf" => telling.or(Some("image/heif")),
        b"avif" | b"avis" | b"heic" | b"heix" | b"heim" | b"heis" => telling,
        _ => None,
    }
}

/// Whether a browser might take it for a page or an SVG, which can run scripts: no photo begins with `<`.
fn is_markup(first: &[u8]) -> bool {
    let first = first.strip_prefix(b"\xef\xbb\xbf").unwrap_or(first).trim_ascii_start();
    matches!(first, [b'<', next, ..] if next.is_ascii_alphabetic() || matches!(next, b'!' | b'?' | b'/'))
}
