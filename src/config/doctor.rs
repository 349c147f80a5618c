//! `photoshare doctor`.

use std::time::Duration;

use clap::Args;

use super::{
    aws::{AwsArgs, AwsConfig},
    error::ConfigErrors,
    redis::RedisArgs,
    setting::{Setting, parsed, seconds},
    validate::Validator,
    web::parse_origins,
};
use crate::log::RedisSettings;

/// Arguments of `photoshare doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Timeout for the event of the doctor's test object; S3 may take a minute
    #[arg(long, env = "DOCTOR_WAIT_SECS", default_value = "60")]
    #[arg(value_name = "SECONDS", value_parser = seconds(1..=3600))]
    wait_secs: Setting<Duration>,
    /// Origins whose pages upload, comma-separated, as configured for the server
    #[arg(long, env = "ALLOWED_ORIGINS")]
    #[arg(value_name = "ORIGINS", value_parser = parsed(parse_origin_list))]
    allowed_origins: Option<Setting<Vec<String>>>,
    #[command(flatten)]
    aws: AwsArgs,
    #[command(flatten)]
    redis: RedisArgs,
}

/// Configuration of `photoshare doctor`.
#[derive(Debug)]
pub struct DoctorConfig {
    /// Whether to print the report as JSON.
    pub json: bool,
    /// Bucket and queue.
    pub aws: AwsConfig,
    /// The Redis that stores the feed log, if any.
    pub redis: Option<RedisSettings>,
    /// Origins whose pages upload, verbatim.
    pub origins: Vec<String>,
    /// How long to wait for the event of the doctor's test object.
    pub event_timeout: Duration,
}

impl DoctorConfig {
    /// Validates the arguments of `photoshare doctor`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: DoctorArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        let config = Self {
            json: args.json,
            aws: args.aws.validate(&mut validator),
            redis: args.redis.validate(&mut validator),
            origins: validator.optional(args.allowed_origins).unwrap_or_default(),
            event_timeout: validator.value(args.wait_secs),
        };
        validator.finish(config)
    }
}

fn parse_origin_list(text: &str) -> Result<Vec<String>, String> {
    parse_origins(text)?;
    let origins = text.split(',').map(str::trim).filter(|origin| !origin.is_empty());
    Ok(origins.map(str::to_owned).collect())
}
