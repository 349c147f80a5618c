//! Logs and metrics.
//!
//! Logs are events with fields; they go to standard error. Nothing that lets anybody in is logged: no
//! signed URL, no token, no receipt handle, no message body.

use std::io::IsTerminal;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tracing::Level;
use tracing_subscriber::{
    EnvFilter, Layer,
    filter::{FilterExt, LevelFilter, filter_fn},
    layer::SubscriberExt,
    util::SubscriberInitExt,
};

use crate::config::LogFormat;

/// Our own events. Vendors' crates are heard from WARN up, whatever `RUST_LOG` says: below that they write
/// whole requests, signatures included.
const OURS: &str = "photoshare";

/// Begins to log and to count. Once in a process.
///
/// # Errors
/// When it was done already.
pub fn init(format: LogFormat) -> anyhow::Result<PrometheusHandle> {
    let said = std::env::var("RUST_LOG").unwrap_or_default();
    let said = if said.is_empty() { "info".to_owned() } else { said };
    let discreet = filter_fn(|about| about.target().starts_with(OURS) || *about.level() <= Level::WARN)
        // It leaves the level to the other filter. Without a hint every trace of every crate is asked about.
        .with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::try_new(&said)?.and(discreet);
    let lines = match format {
        LogFormat::Json => tracing_subscriber::fmt::layer().json().with_writer(std::io::stderr).boxed(),
        LogFormat::Pretty => tracing_subscriber::fmt::layer()
            .with_ansi(std::io::stderr().is_terminal())
            .with_writer(std::io::stderr)
            .boxed(),
    };
    tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()?;
    let recorder = PrometheusBuilder::new().build_recorder();
    let handle = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|_| anyhow::anyhow!("metrics were begun already"))?;
    Ok(handle)
}
