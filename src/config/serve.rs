//! `photoshare serve`.

use std::net::IpAddr;

use clap::Args;

use super::{
    aws::{AwsArgs, AwsConfig},
    common::{CommonArgs, CommonConfig, LogFormat, log_format},
    error::ConfigErrors,
    rules,
    setting::{Setting, boolean, integer, parsed, switch},
    validate::Validator,
    web::{PerCommandValues, WebArgs, WebConfig, parse_ip, parse_origins},
};
use crate::http::AllowedOrigins;

/// Arguments of `photoshare serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// IP address to listen on
    #[arg(long, env = "BIND_ADDR", default_value = "0.0.0.0")]
    #[arg(value_name = "IP", value_parser = parsed(parse_ip))]
    bind_addr: Setting<IpAddr>,
    /// TCP port to listen on; 0 selects a free port
    #[arg(long, env = "PORT")]
    #[arg(value_name = "PORT", value_parser = integer::<u16>(0..=65535))]
    port: Option<Setting<u16>>,
    /// Token authentication: "on" requires AUTH_JWT_SECRET or AUTH_JWKS_URL, "off" grants every client every
    /// right
    #[arg(long, env = "AUTH", default_value = "on")]
    #[arg(value_name = "SWITCH", value_parser = switch())]
    auth: Setting<bool>,
    /// Origins whose pages may send requests, comma-separated: https://app.example.com,
    /// https://*.example.com, *; if empty, only same-origin pages
    #[arg(long, env = "ALLOWED_ORIGINS")]
    #[arg(value_name = "ORIGINS", value_parser = parsed(parse_origins))]
    allowed_origins: Option<Setting<AllowedOrigins>>,
    /// Whether to serve the demo page at /
    #[arg(long, env = "DEMO_PAGE", default_value = "false")]
    #[arg(value_name = "BOOLEAN", value_parser = boolean())]
    demo_page: Setting<bool>,
    /// Run without the queue poller, for a deployment that runs `photoshare poll`; requires REDIS_URL
    #[arg(long)]
    no_poller: bool,
    /// Rate limits: "on" applies GRANTS_PER_MINUTE, REQUESTS_PER_MINUTE and JOINS_PER_SECOND, "off" ignores
    /// them
    #[arg(long, env = "RATE_LIMITS", default_value = "on")]
    #[arg(value_name = "SWITCH", value_parser = switch())]
    rate_limits: Setting<bool>,
    /// Format of log lines
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    #[arg(value_name = "FORMAT", value_parser = log_format())]
    log_format: Setting<LogFormat>,
    #[command(flatten)]
    aws: AwsArgs,
    #[command(flatten)]
    web: WebArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Configuration of `photoshare serve`.
#[derive(Debug)]
pub struct ServeConfig {
    /// Settings shared with the other commands.
    pub common: CommonConfig,
    /// The web side.
    pub web: WebConfig,
    /// Bucket and queue.
    pub aws: AwsConfig,
    /// Whether `/` serves the demo page.
    pub demo_page: bool,
    /// Whether this process receives from the queue.
    pub poller: bool,
}

impl ServeConfig {
    /// Validates the arguments of `photoshare serve`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: ServeArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        rules::check_serve(&args.common, args.no_poller, &mut validator);
        let per_command = PerCommandValues {
            ip: validator.optional(Some(args.bind_addr)),
            port: validator.required("PORT", args.port, "must be set: the port to listen on"),
            auth: validator.value(args.auth),
            origins: validator.optional(args.allowed_origins).unwrap_or_default(),
            rate_limits: validator.value(args.rate_limits),
        };
        let common = args.common.validate(args.log_format, &mut validator);
        let config = Self {
            web: args.web.validate(per_command, common.content_types.clone(), &mut validator),
            common,
            aws: args.aws.validate(&mut validator),
            demo_page: validator.value(args.demo_page),
            poller: !args.no_poller,
        };
        validator.finish(config)
    }
}
