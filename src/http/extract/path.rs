//! Path parameters.

use std::collections::HashMap;

use axum::{
    extract::{FromRequestParts, Path, path::ErrorKind, rejection::PathRejection},
    http::request::Parts,
};
use serde::de::{DeserializeOwned, value::MapDeserializer};

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
pub(super) async fn path_params<T: DeserializeOwned>(parts: &mut Parts) -> Result<T, Problem> {
    // An OPTIONS request is routed twice (see the CORS middleware) and then has each parameter twice: a map
    // accepts that, the structs do not.
    let path = Path::<HashMap<String, String>>::from_request_parts(parts, &()).await;
    let Path(params) = path.map_err(|rejection| path_problem(&rejection))?;
    let params = MapDeserializer::<_, serde::de::value::Error>::new(params.into_iter());
    T::deserialize(params).map_err(|error| Problem::new(ProblemKind::InvalidParameter, error.to_string()))
}

fn path_problem(rejection: &PathRejection) -> Problem {
    match rejection {
        PathRejection::FailedToDeserializePathParams(error) => match error.kind() {
            ErrorKind::InvalidUtf8InPathParam { key } => {
                Problem::new(problem_kind(key), format!("{key} must be percent-encoded UTF-8"))
            }
            _ => Problem::new(ProblemKind::InvalidParameter, error.body_text()),
        },
        _ => Problem::new(ProblemKind::InvalidParameter, rejection.body_text()),
    }
}

/// The problem that an invalid path parameter causes.
fn problem_kind(name: &str) -> ProblemKind {
    match name {
        "feed" => ProblemKind::InvalidFeed,
        "name" => ProblemKind::InvalidKey,
        _ => ProblemKind::InvalidParameter,
    }
}
