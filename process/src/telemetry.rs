//! Logs on standard error and metrics for Prometheus.

use std::io::IsTerminal;
use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tracing_subscriber::EnvFilter;

/// The environment variable that overrides the log filter, such as `info,cloud_broker=debug`.
pub const LOG_ENV: &str = "CULVERT_LOG";

/// Bucket bounds of every histogram whose name ends in `_seconds`: from a fast sync to an outage of a minute.
const SECONDS_BUCKETS: [f64; 16] = [
    0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0,
    15.0, 60.0,
];

/// Bucket bounds of every other histogram (sizes and counts), in powers of four.
const SIZE_BUCKETS: [f64; 13] = [
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1_024.0,
    4_096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
];

/// Starts logging to standard error, filtered by `CULVERT_LOG` or else by `default_filter`. A second call changes nothing.
pub fn init_logging(default_filter: &str) {
    let wanted = std::env::var(LOG_ENV).ok();
    let parsed = wanted.as_deref().map(EnvFilter::try_new);
    let (filter, complaint) = match parsed {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(default_filter), Some(error)),
        None => (EnvFilter::new(default_filter), None),
    };
    let installed = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would complain to the same place, and panic: whoever read the log may be gone, and what runs is not to end for that.
        .log_internal_errors(false)
        .try_init()
        .is_ok();
    if let (true, Some(error)) = (installed, complaint) {
        tracing::warn!("{LOG_ENV} is not a log filter, using \"{default_filter}\": {error}");
    }
}

/// The metrics of this process, ready to be shown. Clones show the same ones.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// All metrics in the Prometheus text format.
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Folds raw histogram samples into their buckets. Without it (or a scrape) they grow without bound, so
    /// [`serve`](crate::serve) calls it regularly.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Metrics")
    }
}

/// Makes the `metrics` macros of this process count here. Every call returns the same metrics.
pub fn install_metrics() -> Metrics {
    static INSTALLED: OnceLock<Metrics> = OnceLock::new();
    INSTALLED.get_or_init(install).clone()
}

fn install() -> Metrics {
    let recorder = PrometheusBuilder::new()
        .set_buckets(&SIZE_BUCKETS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        })
        .expect("neither list of buckets is empty")
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed: /metrics stays empty");
    }
    Metrics { handle }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_buckets_are_rendered_by_every_handle() {
        let first = install_metrics();
        metrics::counter!("culvert_process_test_total").increment(3);
        metrics::histogram!("culvert_process_test_seconds").record(0.002);
        metrics::histogram!("culvert_process_test_bytes").record(5_000.0);
        first.upkeep();
        let text = install_metrics().render();
        for line in [
            "culvert_process_test_total 3",
            "culvert_process_test_seconds_bucket{le=\"0.001\"} 0",
            "culvert_process_test_seconds_bucket{le=\"0.0025\"} 1",
            "culvert_process_test_bytes_bucket{le=\"4096\"} 0",
            "culvert_process_test_bytes_bucket{le=\"16384\"} 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }

    #[test]
    fn logging_may_be_asked_for_twice() {
        init_logging("warn");
        init_logging("not a filter at all");
        tracing::debug!("filtered");
    }
}
