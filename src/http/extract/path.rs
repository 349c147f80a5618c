//! Path parameters.

use axum::{
    extract::{FromRequestParts, Path, path::ErrorKind, rejection::PathRejection},
    http::request::Parts,
};
use serde::de::DeserializeOwned;

use crate::{
    http::dto::{PartPath, PhotoPath, UploadIdPath},
    protocol::{Problem, ProblemKind},
};

/// The photo name at the end of the path.
pub(in crate::http) struct PhotoName(pub(in crate::http) String);

/// The id of an S3 multipart upload in the path.
pub(in crate::http) struct UploadId(pub(in crate::http) String);

/// The part number in the path, as unparsed text.
pub(in crate::http) struct PartNumberText(pub(in crate::http) String);

impl<S: Sync> FromRequestParts<S> for PhotoName {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_params::<PhotoPath>(parts).await.map(|path| Self(path.name))
    }
}

impl<S: Sync> FromRequestParts<S> for UploadId {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_params::<UploadIdPath>(parts).await.map(|path| Self(path.upload_id))
    }
}

impl<S: Sync> FromRequestParts<S> for PartNumberText {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        path_params::<PartPath>(parts).await.map(|path| Self(path.part_number))
    }
}

/// The percent-decoded path parameters that `T` names. The path is decoded as a whole: the parameter that is
/// not UTF-8 may be one that `T` does not name.
pub(super) async fn path_params<T: DeserializeOwned + Send>(parts: &mut Parts) -> Result<T, Problem> {
    let path = Path::<T>::from_request_parts(parts, &()).await;
    path.map(|Path(params)| params).map_err(|rejection| match &rejection {
        PathRejection::FailedToDeserializePathParams(error) => match error.kind() {
            ErrorKind::InvalidUtf8InPathParam { key } => {
                Problem::new(problem_kind(key), format!("{key} must be percent-encoded UTF-8"))
            }
            _ => Problem::new(ProblemKind::InvalidParameter, error.body_text()),
        },
        _ => Problem::new(ProblemKind::InvalidParameter, rejection.body_text()),
    })
}

/// The problem that an invalid path parameter causes.
fn problem_kind(name: &str) -> ProblemKind {
    match name {
        "feed" => ProblemKind::InvalidFeed,
        "name" => ProblemKind::InvalidKey,
        _ => ProblemKind::InvalidParameter,
    }
}
