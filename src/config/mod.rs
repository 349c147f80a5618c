//! Configuration: flags and environment variables, validated together before the process opens a port or a
//! connection.
//!
//! Clap parses each value into a `Setting`: a typed value or an error. The `validate` function of a
//! command then checks the rules between settings, and returns the configuration or all errors.

#![expect(clippy::doc_markdown, rustdoc::bare_urls, reason = "the comments of arguments are the help text")]

mod auth;
mod aws;
mod command;
mod common;
mod dev;
mod doctor;
mod error;
mod limits;
mod poll;
mod redis;
mod redrive;
mod rules;
mod serve;
mod setting;
mod token;
mod validate;
mod web;

use std::time::Duration;

pub use aws::AwsConfig;
pub use command::{Cli, Command};
pub use common::{CommonConfig, LogFormat};
pub use dev::{DevArgs, DevConfig};
pub use doctor::{DoctorArgs, DoctorConfig};
pub use error::{ConfigError, ConfigErrors};
pub use poll::{PollArgs, PollConfig};
pub use redrive::{RedriveArgs, RedriveConfig};
pub use serve::{ServeArgs, ServeConfig};
pub use token::{TokenArgs, TokenConfig};
pub use web::WebConfig;

/// Maximum time from SIGTERM to the exit. Heroku sends SIGKILL after 30 seconds.
pub const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(18);
