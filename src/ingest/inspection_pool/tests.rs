use std::sync::mpsc;

use super::*;
use crate::support::{image, log_buffer::LogBuffer, object_key};

/// An inspection that ends only when the sender of `receiver` is dropped.
fn stalled(receiver: mpsc::Receiver<()>) -> impl FnOnce(&[u8], DetectedType) -> Option<(u32, u32)> {
    move |_, _| {
        let _ = receiver.recv();
        Some((1, 1))
    }
}

fn png() -> Bytes {
    image::png(40, 30, &[]).into()
}

fn of_png(dimensions: Option<(u32, u32)>) -> Inspection {
    Inspection { detected_type: DetectedType::Photo("image/png"), dimensions }
}

fn pool(timeout: Duration) -> InspectionPool {
    InspectionPool { timeout, ..InspectionPool::new() }
}

/// Never reached, unless an inspection is stalled that should not be.
const LONG: Duration = Duration::from_mins(10);
const SHORT: Duration = Duration::from_millis(20);

#[tokio::test]
async fn a_panic_leaves_the_dimensions_unknown_and_keeps_the_type() {
    let pool = pool(LONG);
    let key = object_key("summer/a.png");
    for _ in 0..=MAX_THREADS {
        let failed = pool.inspect_with(&key, png(), |_, _| panic!("for a test"));
        assert_eq!(failed.await, of_png(None));
    }
    assert_eq!(pool.inspect(&key, png()).await, of_png(Some((40, 30))));
}

#[tokio::test]
async fn an_inspection_that_does_not_end_delays_no_other() {
    let pool = pool(LONG);
    let key = object_key("summer/a.png");
    let (sender, receiver) = mpsc::channel();
    let mut first = std::pin::pin!(pool.inspect_with(&key, png(), stalled(receiver)));
    assert!(futures_util::poll!(&mut first).is_pending());
    for _ in 0..100 {
        assert_eq!(pool.inspect(&key, png()).await, of_png(Some((40, 30))));
    }
    assert!(futures_util::poll!(&mut first).is_pending());
    drop(sender);
    assert_eq!(first.await, of_png(Some((1, 1))));
}

#[tokio::test]
async fn an_inspection_waits_for_a_thread_no_longer_than_the_timeout() {
    let pool = pool(SHORT);
    let key = object_key("summer/a.png");
    let mut senders = Vec::new();
    for _ in 0..MAX_THREADS {
        let (sender, receiver) = mpsc::channel();
        senders.push(sender);
        assert_eq!(pool.inspect_with(&key, png(), stalled(receiver)).await.dimensions, None);
    }
    assert_eq!(pool.inspect(&key, png()).await.dimensions, None, "no thread is free");
    drop(senders);
    let _free = pool.permits.acquire_many(MAX_THREADS.try_into().unwrap()).await.unwrap();
}

#[test]
fn a_failed_inspection_is_logged_with_its_key_and_counted_by_reason() {
    let buffer = LogBuffer::default();
    let writer = buffer.clone();
    let subscriber = tracing_subscriber::fmt().with_writer(move || writer.clone()).with_ansi(false).finish();
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(subscriber, || {
        metrics::with_local_recorder(&recorder, || {
            runtime.block_on(async {
                let (_sender, receiver) = mpsc::channel();
                pool(SHORT).inspect_with(&object_key("summer/slow.png"), png(), stalled(receiver)).await;
                let broken = object_key("summer/broken.png");
                pool(LONG).inspect_with(&broken, png(), |_, _| panic!("for a test")).await;
            });
        });
    });
    runtime.shutdown_background();
    let log = buffer.text();
    let metrics = recorder.handle().render();
    for (key, reason) in [("summer/slow.png", "timeout"), ("summer/broken.png", "panic")] {
        assert!(log.lines().any(|line| line.contains(key) && line.contains(reason)), "{log}");
        let counted = format!("photoshare_inspection_failures_total{{reason=\"{reason}\"}} 1");
        assert!(metrics.contains(&counted), "{metrics}");
    }
}
