//! The subcommands.

use clap::{Parser, Subcommand};

use super::{
    dev::DevArgs, doctor::DoctorArgs, poll::PollArgs, redrive::RedriveArgs, serve::ServeArgs,
    token::TokenArgs,
};

/// Server for photo feeds: delivers an event to every subscriber as soon as S3 stores a photo
#[derive(Debug, Parser)]
#[command(name = "photoshare", version, arg_required_else_help = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything in one process for development, with an embedded S3 and queue
    Dev(DevArgs),
    /// Run the web server and the queue poller, with S3 and SQS
    Serve(ServeArgs),
    /// Run the queue poller only, with S3 and SQS; requires REDIS_URL
    Poll(PollArgs),
    /// Print a token for development, signed with AUTH_JWT_SECRET
    Token(TokenArgs),
    /// Check bucket, queue, event notifications and Redis, and print how to fix what fails
    #[command(
        after_help = "Exit code: 0 all checks passed, 1 a warning, 2 a failure, 64 invalid command line, 78 invalid configuration"
    )]
    Doctor(DoctorArgs),
    /// Move the messages of the dead-letter queue back to the queue
    Redrive(RedriveArgs),
}
