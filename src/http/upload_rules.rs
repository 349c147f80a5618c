//! Limits on uploads.

use crate::protocol::{Problem, ProblemKind};

/// Limits on uploads.
#[derive(Debug, Clone)]
pub struct UploadRules {
    /// Maximum size of a photo in bytes.
    pub max_bytes: u64,
    /// Accepted media types, in lower case.
    pub content_types: Vec<String>,
    /// Whether to store the uploader's `sub` claim in the photo's metadata.
    pub record_uploader: bool,
}

impl UploadRules {
    /// Requires an accepted media type. Returns it in lower case and without parameters.
    pub(super) fn require_content_type(&self, field: &str, value: &str) -> Result<String, Problem> {
        let essence = value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        // SVG can contain scripts, so it is rejected even if the configuration lists it.
        if essence != "image/svg+xml" && self.content_types.contains(&essence) {
            return Ok(essence);
        }
        let detail = format!("{field} must be one of {}", self.content_types.join(", "));
        Err(Problem::new(ProblemKind::UnsupportedContentType, detail))
    }

    /// Requires a size within the limit.
    pub(super) fn require_size(&self, size: u64) -> Result<u64, Problem> {
        if size <= self.max_bytes {
            return Ok(size);
        }
        let detail = format!("size must be at most {} bytes, got {size}", self.max_bytes);
        Err(Problem::new(ProblemKind::TooLarge, detail))
    }
}
