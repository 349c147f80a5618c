//! `photoshare dev`.

use std::{net::IpAddr, path::PathBuf};

use clap::Args;

use super::{
    common::{CommonArgs, CommonConfig, LogFormat, log_format},
    error::ConfigErrors,
    setting::{Setting, integer, parsed, switch, text},
    validate::Validator,
    web::{PerCommandValues, WebArgs, WebConfig, parse_ip, parse_origins},
};
use crate::http::AllowedOrigins;

/// Arguments of `photoshare dev`.
#[derive(Debug, Args)]
pub struct DevArgs {
    /// IP address to listen on
    #[arg(long, env = "BIND_ADDR", default_value = "127.0.0.1")]
    #[arg(value_name = "IP", value_parser = parsed(parse_ip))]
    bind_addr: Setting<IpAddr>,
    /// TCP port to listen on; 0 selects a free port
    #[arg(long, env = "PORT", default_value = "3000")]
    #[arg(value_name = "PORT", value_parser = integer::<u16>(0..=65535))]
    port: Setting<u16>,
    /// Directory that stores the photos
    #[arg(long, env = "DATA_DIR", default_value = ".photoshare")]
    #[arg(value_name = "DIRECTORY", value_parser = text::<PathBuf>())]
    data_dir: Setting<PathBuf>,
    /// Origin of signed URLs (http://host:port); if unset, the Host header of each request
    #[arg(long, env = "PUBLIC_URL")]
    #[arg(value_name = "URL", value_parser = parsed(parse_public_url))]
    public_url: Option<Setting<String>>,
    /// Token authentication: "on" requires AUTH_JWT_SECRET or AUTH_JWKS_URL, "off" grants every client every
    /// right
    #[arg(long, env = "AUTH", default_value = "off")]
    #[arg(value_name = "SWITCH", value_parser = switch())]
    auth: Setting<bool>,
    /// Origins whose pages may send requests, comma-separated: https://app.example.com,
    /// https://*.example.com, *; if empty, only same-origin pages
    #[arg(long, env = "ALLOWED_ORIGINS", default_value = "*")]
    #[arg(value_name = "ORIGINS", value_parser = parsed(parse_origins))]
    allowed_origins: Setting<AllowedOrigins>,
    /// Rate limits: "on" applies GRANTS_PER_MINUTE, REQUESTS_PER_MINUTE and JOINS_PER_SECOND, "off" ignores
    /// them
    #[arg(long, env = "RATE_LIMITS", default_value = "off")]
    #[arg(value_name = "SWITCH", value_parser = switch())]
    rate_limits: Setting<bool>,
    /// Format of log lines
    #[arg(long, env = "LOG_FORMAT", default_value = "pretty")]
    #[arg(value_name = "FORMAT", value_parser = log_format())]
    log_format: Setting<LogFormat>,
    #[command(flatten)]
    web: WebArgs,
    #[command(flatten)]
    common: CommonArgs,
}

/// Configuration of `photoshare dev`.
#[derive(Debug)]
pub struct DevConfig {
    /// Settings shared with the other commands.
    pub common: CommonConfig,
    /// The web side.
    pub web: WebConfig,
    /// Folder that stores the photos.
    pub data_dir: PathBuf,
    /// Origin in signed URLs; `None` uses the `Host` header of each request.
    pub public_url: Option<String>,
}

impl DevConfig {
    /// Validates the arguments of `photoshare dev`.
    ///
    /// # Errors
    /// Lists every invalid setting.
    pub fn validate(args: DevArgs) -> Result<Self, ConfigErrors> {
        let mut validator = Validator::default();
        let per_command = PerCommandValues {
            ip: validator.optional(Some(args.bind_addr)),
            port: validator.value(args.port),
            auth: validator.value(args.auth),
            origins: validator.value(args.allowed_origins),
            rate_limits: validator.value(args.rate_limits),
        };
        let common = args.common.validate(args.log_format, &mut validator);
        let config = Self {
            web: args.web.validate(per_command, common.content_types.clone(), &mut validator),
            common,
            data_dir: validator.value(args.data_dir),
            public_url: validator.optional(args.public_url),
        };
        validator.finish(config)
    }
}

fn parse_public_url(url: &str) -> Result<String, &'static str> {
    let url = url.trim_end_matches('/');
    let host = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
    if host.is_none_or(|host| host.is_empty() || host.contains(['/', '?', '#', '@'])) {
        return Err("must be http:// or https:// followed by a host, without a path");
    }
    Ok(url.to_owned())
}
