//! A step of the round trip that failed.

use crate::{doctor::remediation, queue::QueueError};

/// What failed, and its fix.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct RoundTripError {
    pub(super) found: String,
    pub(super) fix: String,
}

impl RoundTripError {
    /// An error that may pass by itself.
    pub(super) fn transient(found: String) -> Self {
        Self {
            found,
            fix: "run the doctor again; if it persists, check the network and the AWS status".into(),
        }
    }

    /// A missing permission, which the access stack grants with these parameters.
    pub(super) fn access_denied(found: String, parameters: &str) -> Self {
        let fix = format!(
            "{} (and its KmsKeyArn, if bucket or queue has a customer managed key)",
            remediation::deploy_access_stack(parameters)
        );
        Self { found, fix }
    }

    pub(super) fn from_queue_error(error: &QueueError) -> Self {
        if error.is_access_denied() {
            Self::access_denied(error.to_string(), &remediation::parameter_from_output("QueueArn"))
        } else {
            Self::transient(error.to_string())
        }
    }
}
