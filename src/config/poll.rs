//! `photoshare poll`.

use clap::Args;

use super::{
    aws::{AwsArgs, AwsConfig},
    common::{CommonArgs, CommonConfig, LogFormat, log_format},
    error::ConfigErrors,
    rules,
    setting::Setting,
    validate::Validator,
};

/// Arguments of `photoshare poll`.
#[derive(Debug, Args)]
pub struct PollArgs {
    /// Format of log lines
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    #[arg(value_name = "FORMAT", value_parser = log_format())]
    log_format: Setting<LogFormat>,
    #[command(flatten)]
    aws: AwsArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Configuration of `photoshare poll`.
#[derive(Debug)]
pub struct PollConfig {
    /// Settings shared with the other commands.
    pub common: CommonConfig,
    /// Bucket and queue.
    pub aws: AwsConfig,
}

impl PollConfig {
    /// Validates the arguments of `photoshare poll`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: PollArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        rules::check_poll(&args.common, &mut validator);
        let config = Self {
            common: args.common.validate(args.log_format, &mut validator),
            aws: args.aws.validate(&mut validator),
        };
        validator.finish(config)
    }
}
