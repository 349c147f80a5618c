//! Logs and metrics.
//!
//! Log lines are structured events on standard error. They never contain credentials: no signed URL, no
//! token, no receipt handle, no message body.

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

/// Target prefix of this crate's events. Dependencies log at WARN and above only, whatever `RUST_LOG` says:
/// below WARN they write whole requests, signatures included.
const OWN_TARGET_PREFIX: &str = "photoshare";

/// Installs the global log subscriber and metrics recorder. `RUST_LOG` selects the level; the default is
/// `info`.
///
/// # Errors
/// When `RUST_LOG` is invalid, or when the process has called this before.
pub fn init(format: LogFormat) -> anyhow::Result<PrometheusHandle> {
    let directives = std::env::var("RUST_LOG").unwrap_or_default();
    let directives = if directives.is_empty() { "info".to_owned() } else { directives };
    let secrets_filter = filter_fn(|metadata| {
        metadata.target().starts_with(OWN_TARGET_PREFIX) || *metadata.level() <= Level::WARN
    })
    // The other filter selects the level. Without this hint, tracing evaluates the filter for every callsite
    // of every crate.
    .with_max_level_hint(LevelFilter::TRACE);
    let filter = EnvFilter::try_new(&directives)?.and(secrets_filter);
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
    metrics::set_global_recorder(recorder)
        .map_err(|_| anyhow::anyhow!("failed to install the metrics recorder: one is installed already"))?;
    Ok(handle)
}
