//! Multipart uploads, in the shape of Uppy's Companion: <https://uppy.io/docs/aws-s3/>.

use std::{collections::BTreeMap, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, de::Error};
use utoipa::{IntoParams, ToSchema};

use super::{
    fields::parse_digits,
    upload::{Caption, Filename, FormFields},
};

/// Maximum number of parts of a multipart upload in S3.
const MAX_PARTS: u16 = 10_000;
/// Maximum number of parts to sign in one request.
const MAX_PARTS_PER_BATCH: usize = 100;

/// Description of the file. Ignores the further metadata that Uppy sends.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct UploadParametersQuery {
    /// File name
    #[param(value_type = Option<String>, nullable = false, max_length = 255)]
    pub(in crate::http) filename: Option<Filename>,
    /// Media type
    pub(in crate::http) r#type: String,
    /// Caption
    #[serde(rename = "metadata[caption]")]
    #[param(value_type = Option<String>, nullable = false, max_length = 800)]
    pub(in crate::http) caption: Option<Caption>,
}

/// The object key of the multipart upload.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct KeyQuery {
    /// Object key of the upload
    pub(in crate::http) key: String,
}

/// The parts to sign.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(in crate::http) struct PartNumbersQuery {
    /// Part numbers, separated by commas
    #[serde(rename = "partNumbers", deserialize_with = "part_numbers")]
    #[param(value_type = String, pattern = "^([1-9][0-9]{0,3}|10000)(,([1-9][0-9]{0,3}|10000))*$")]
    pub(in crate::http) part_numbers: Vec<PartNumber>,
}

/// Number of a part: 1 to 10,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) struct PartNumber(pub(in crate::http) u16);

/// Not the number of a part.
#[derive(Debug, thiserror::Error)]
#[error("part numbers must be 1 to {MAX_PARTS}")]
pub(in crate::http) struct PartNumberError;

/// A file to upload in parts.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(in crate::http) struct CreateMultipartRequest {
    #[schema(value_type = Option<String>, max_length = 255)]
    pub(in crate::http) filename: Option<Filename>,
    /// Media type.
    pub(in crate::http) r#type: String,
    /// Uppy's metadata; only `caption` is stored.
    pub(in crate::http) metadata: Option<MultipartMetadata>,
}

/// Metadata that Uppy sends.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(in crate::http) struct MultipartMetadata {
    #[schema(value_type = Option<String>, max_length = 800)]
    pub(in crate::http) caption: Option<Caption>,
}

/// The parts of the object, in ascending order of their numbers.
#[derive(Deserialize, ToSchema)]
#[serde(expecting = "an object")]
pub(in crate::http) struct CompleteMultipartRequest {
    #[schema(min_items = 1)]
    pub(in crate::http) parts: Vec<CompletedPart>,
}

/// An uploaded part: its number and `ETag`.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "PascalCase", expecting = "an object")]
pub(in crate::http) struct CompletedPart {
    #[schema(minimum = 1, maximum = 10_000)]
    pub(in crate::http) part_number: u16,
    #[serde(rename = "ETag")]
    pub(in crate::http) e_tag: String,
}

/// Parameters of a form upload.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct UploadParameters {
    pub(in crate::http) method: &'static str,
    pub(in crate::http) url: String,
    /// Form fields. Send them in this order, followed by the file.
    #[schema(value_type = BTreeMap<String, String>)]
    pub(in crate::http) fields: FormFields,
    /// Seconds until the parameters expire.
    pub(in crate::http) expires: u64,
}

/// A new multipart upload.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct MultipartCreated {
    pub(in crate::http) key: String,
    pub(in crate::http) upload_id: String,
    pub(in crate::http) bucket: String,
}

/// A part that the bucket has stored.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "PascalCase")]
pub(in crate::http) struct UploadedPart {
    pub(in crate::http) part_number: u16,
    #[serde(rename = "ETag")]
    pub(in crate::http) e_tag: String,
    pub(in crate::http) size: u64,
}

/// A signed URL for one part.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct SignedPart {
    pub(in crate::http) url: String,
    /// Seconds until the URL expires.
    pub(in crate::http) expires: u64,
}

/// Signed URLs by part number.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::http) struct SignedParts {
    #[schema(value_type = BTreeMap<String, String>)]
    pub(in crate::http) presigned_urls: BTreeMap<u16, String>,
}

/// The object of a completed multipart upload.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct MultipartCompleted {
    pub(in crate::http) location: String,
    pub(in crate::http) key: String,
    pub(in crate::http) bucket: String,
}

/// Empty response to an abort.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct MultipartAborted {}

impl FromStr for PartNumber {
    type Err = PartNumberError;

    fn from_str(text: &str) -> Result<Self, PartNumberError> {
        let number = parse_digits(text).filter(|number| (1..=MAX_PARTS).contains(number));
        number.map(Self).ok_or(PartNumberError)
    }
}

fn part_numbers<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<PartNumber>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let numbers: Vec<_> = text.split(',').collect();
    if numbers.len() > MAX_PARTS_PER_BATCH {
        return Err(D::Error::custom(format_args!("must list at most {MAX_PARTS_PER_BATCH} parts")));
    }
    numbers.into_iter().map(str::parse).collect::<Result<_, _>>().map_err(D::Error::custom)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn completed_parts_have_a_number_and_an_e_tag() {
        let good = json!({"parts": [{"PartNumber": 1, "ETag": "\"a\""}, {"PartNumber": 2, "ETag": "b"}]});
        let parts = CompleteMultipartRequest::deserialize(good).unwrap().parts;
        let parts: Vec<_> = parts.iter().map(|part| (part.part_number, &*part.e_tag)).collect();
        assert_eq!(parts, [(1, "\"a\""), (2, "b")]);
        for bad in [
            json!([]),
            json!({}),
            json!({"parts": {}}),
            json!({"parts": [1]}),
            json!({"parts": [{"PartNumber": 1}]}),
            json!({"parts": [{"PartNumber": "1", "ETag": "a"}]}),
            json!({"parts": [{"PartNumber": 65536, "ETag": "a"}]}),
        ] {
            assert!(CompleteMultipartRequest::deserialize(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn part_numbers_are_1_to_10000() {
        for (text, good) in
            [("1", true), ("10000", true), ("0", false), ("10001", false), ("", false), ("+1", false)]
        {
            assert_eq!(text.parse::<PartNumber>().is_ok(), good, "{text}");
        }
    }
}
