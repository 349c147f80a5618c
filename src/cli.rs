//! The command line: parses and validates the arguments, runs the command, and returns its exit code.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use crate::{
    app, auth,
    config::{
        AwsConfig, Cli, Command, ConfigErrors, DevConfig, DoctorArgs, DoctorConfig, PollConfig, RedriveArgs,
        RedriveConfig, ServeConfig, TokenArgs, TokenConfig,
    },
    doctor,
    queue::SqsQueue,
    redrive, telemetry,
};

/// Invalid command line: `EX_USAGE` of sysexits.h. Clap's own code is 2, which is the doctor's code for a
/// failed check.
const EXIT_USAGE: u8 = 64;
/// Invalid configuration: `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

/// Runs `photoshare`.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(error) => return print_clap_error(&error),
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("photoshare: {error:#}");
            let invalid = error.downcast_ref::<ConfigErrors>().is_some();
            if invalid { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

/// Prints what clap returns as an error: `--help` and `--version`, which succeed, and usage errors.
fn print_clap_error(error: &clap::Error) -> ExitCode {
    // A closed standard output can't be reported anywhere.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(args) => {
            let config = DevConfig::validate(args)?;
            let metrics = telemetry::init(config.common.log_format)?;
            block_on(app::dev(config, metrics))?;
        }
        Command::Serve(args) => {
            let config = ServeConfig::validate(args)?;
            let metrics = telemetry::init(config.common.log_format)?;
            block_on(app::serve(config, metrics))?;
        }
        Command::Poll(args) => {
            let config = PollConfig::validate(args)?;
            let metrics = telemetry::init(config.common.log_format)?;
            block_on(app::poll(config, metrics))?;
        }
        Command::Doctor(args) => return block_on(run_doctor(args)),
        Command::Redrive(args) => block_on(run_redrive(args))?,
        Command::Token(args) => print_token(args)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints the report. The exit code is the level of the worst finding.
async fn run_doctor(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let DoctorConfig { json, aws, redis, origins, event_timeout } = DoctorConfig::validate(args)?;
    let sdk = app::load_aws_sdk(&aws).await;
    let AwsConfig { bucket, prefix, queue_url, .. } = aws;
    let deployment = doctor::Deployment { bucket, prefix, queue_url, origins, redis, event_timeout };
    let report = doctor::check_deployment(&sdk, &deployment).await;
    if json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.to_text());
    }
    Ok(ExitCode::from(report.worst_level() as u8))
}

async fn run_redrive(args: RedriveArgs) -> anyhow::Result<()> {
    let RedriveConfig { dry_run, aws } = RedriveConfig::validate(args)?;
    let sdk = app::load_aws_sdk(&aws).await;
    let queue = SqsQueue::new(&sdk, aws.queue_url, Duration::from_secs(20));
    redrive::redrive(&queue, dry_run).await
}

fn print_token(args: TokenArgs) -> anyhow::Result<()> {
    let TokenConfig { secret, spec } = TokenConfig::validate(args)?;
    let token = auth::sign_token(&secret, &spec, Timestamp::now())?;
    println!("{}", token.expose_secret());
    Ok(())
}

/// Runs `future` on a current-thread runtime. The server waits for I/O and copies bytes: one thread does that
/// faster than two that contend for locks. A deployment uses more cores by running more processes.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let result = runtime.block_on(future);
    // Dropping the runtime waits for blocking tasks: a DNS query without an answer would delay the exit.
    runtime.shutdown_background();
    result
}
