//! The program: reads the command line, judges it, runs, and says how it ended.

use std::{process::ExitCode, time::Duration};

use clap::Parser;
use jiff::Timestamp;
use secrecy::ExposeSecret;

use crate::{
    app, auth,
    config::{self, Aws, Cli, Command, Dev, Doctor, DoctorArgs, Mistakes, Poll, Serve, Token},
    doctor,
    queue::SqsQueue,
    redrive, telemetry,
};

/// The command line can't be read: `EX_USAGE` of sysexits.h. Clap's own 2 is a failure that the doctor found.
const EXIT_USAGE: u8 = 64;
/// The configuration is wrong: `EX_CONFIG` of sysexits.h.
const EXIT_CONFIG: u8 = 78;

/// Runs `photoshare`.
#[must_use]
pub fn main() -> ExitCode {
    let command = match Cli::try_parse() {
        Ok(cli) => cli.command,
        Err(said) => return say(&said),
    };
    match run(command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("photoshare: {error:#}");
            let config = error.downcast_ref::<Mistakes>().is_some();
            if config { ExitCode::from(EXIT_CONFIG) } else { ExitCode::FAILURE }
        }
    }
}

/// Help and version were asked for; all else is a mistake.
fn say(said: &clap::Error) -> ExitCode {
    // Nobody is left to be told that nobody listens.
    let _ = said.print();
    if said.use_stderr() { ExitCode::from(EXIT_USAGE) } else { ExitCode::SUCCESS }
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Dev(args) => {
            let dev = Dev::judge(&args)?;
            let metrics = telemetry::init(dev.common.log_format)?;
            on_one_thread(app::dev(dev, metrics)).map(|()| ExitCode::SUCCESS)
        }
        Command::Serve(args) => {
            let serve = Serve::judge(&args)?;
            let metrics = telemetry::init(serve.common.log_format)?;
            on_one_thread(app::serve(serve, metrics)).map(|()| ExitCode::SUCCESS)
        }
        Command::Poll(args) => {
            let poll = Poll::judge(&args)?;
            // Counted all the same; nothing is served to read it from.
            let metrics = telemetry::init(poll.common.log_format)?;
            on_one_thread(app::poll(poll, metrics)).map(|()| ExitCode::SUCCESS)
        }
        Command::Doctor(args) => on_one_thread(examine(&args)),
        Command::Redrive(args) => {
            let aws = config::redrive(&args)?;
            on_one_thread(async {
                let sdk = app::aws_sdk(&aws).await;
                let queue = SqsQueue::new(&sdk, aws.queue_url.clone(), Duration::from_secs(20));
                redrive::redrive(&queue, args.dry_run).await
            })
            .map(|()| ExitCode::SUCCESS)
        }
        Command::Token(args) => {
            let Token { secret, order } = Token::judge(&args)?;
            let token = auth::mint(&secret, &order, Timestamp::now())?;
            println!("{}", token.expose_secret());
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// The exit code is the worst that was found.
async fn examine(args: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let Doctor { aws, redis, origins, wait } = Doctor::judge(args)?;
    let sdk = app::aws_sdk(&aws).await;
    let Aws { bucket, prefix, queue_url, .. } = aws;
    let subject = doctor::Subject { bucket, prefix, queue_url, origins, redis, wait };
    let report = doctor::examine(&sdk, &subject).await;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        print!("{}", report.text());
    }
    Ok(ExitCode::from(report.worst() as u8))
}

/// One thread does it all: what it does is wait and copy, and without locks to fight over it does more
/// of it than two would. More cores are used by more processes.
fn on_one_thread<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let done = runtime.block_on(work);
    // What is done is done: a look-up of a name that nobody answers would hold up the end for as long.
    runtime.shutdown_background();
    done
}
