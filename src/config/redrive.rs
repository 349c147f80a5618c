//! `photoshare redrive`.

use clap::Args;

use super::{
    aws::{AwsArgs, AwsConfig},
    error::ConfigErrors,
    validate::Validator,
};

/// Arguments of `photoshare redrive`.
#[derive(Debug, Args)]
pub struct RedriveArgs {
    /// Move no message; print for each why it could not be processed
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    aws: AwsArgs,
}

/// Configuration of `photoshare redrive`.
#[derive(Debug)]
pub struct RedriveConfig {
    /// Whether to print the messages instead of moving them.
    pub dry_run: bool,
    /// Bucket and queue.
    pub aws: AwsConfig,
}

impl RedriveConfig {
    /// Validates the arguments of `photoshare redrive`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: RedriveArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        let config = Self { dry_run: args.dry_run, aws: args.aws.validate(&mut validator) };
        validator.finish(config)
    }
}
