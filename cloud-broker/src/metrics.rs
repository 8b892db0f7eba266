//! The metrics of the broker. Their names are frozen: dashboards and alerts are built on them (docs/operating.md).

use std::time::Duration;

use broker_core::BrokerStats;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::log_folder::{DiskSpace, SpaceReport};

/// What a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only rises.
    Counter,
    /// Rises and falls.
    Gauge,
    /// Counts by size.
    Histogram,
}

/// A metric, for the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metric {
    /// Its name.
    pub name: &'static str,
    /// What it is.
    pub kind: MetricKind,
    /// What it says.
    pub help: &'static str,
}

const DISK_BELOW_FLOOR: &str = "culvert_broker_disk_below_floor";
const DISK_FREE_BYTES: &str = "culvert_broker_disk_free_bytes";
const DISK_TOTAL_BYTES: &str = "culvert_broker_disk_total_bytes";
const KAFKA_CONNECTIONS: &str = "culvert_broker_kafka_connections";
const KAFKA_CONNECTIONS_REFUSED: &str = "culvert_broker_kafka_connections_refused_total";
const KAFKA_PROTOCOL_ERRORS: &str = "culvert_broker_kafka_protocol_errors_total";
const KAFKA_REQUESTS: &str = "culvert_broker_kafka_requests_total";
const PARKED_ANSWERS: &str = "culvert_broker_parked_answers";
const PARKED_FETCHES: &str = "culvert_broker_parked_fetches";
const READ_ERRORS: &str = "culvert_broker_read_errors_total";
const TOPICS: &str = "culvert_broker_topics";
const UPLINK_FRAMES: &str = "culvert_broker_uplink_frames_total";
const UPLINK_PROTOCOL_ERRORS: &str = "culvert_broker_uplink_protocol_errors_total";
const UPLINK_SESSIONS: &str = "culvert_broker_uplink_sessions";
const WAL_BYTES: &str = "culvert_broker_wal_bytes_total";
const WAL_FILES_POSSIBLE: &str = "culvert_broker_wal_files_possible";
const WAL_SYNC_SECONDS: &str = "culvert_broker_wal_sync_seconds";

/// All of them, by name.
pub const METRICS: &[Metric] = &[
    gauge_of(DISK_BELOW_FLOOR, "Whether too little of the disk is free to take anything in."),
    gauge_of(DISK_FREE_BYTES, "Bytes of the log's disk that are free."),
    gauge_of(DISK_TOTAL_BYTES, "Bytes of the log's disk."),
    gauge_of(KAFKA_CONNECTIONS, "Kafka connections that are open."),
    counter_of(
        KAFKA_CONNECTIONS_REFUSED,
        "Kafka connections that were closed at once because there were too many.",
    ),
    counter_of(
        KAFKA_PROTOCOL_ERRORS,
        "Kafka connections that were closed because of what they sent.",
    ),
    counter_of(KAFKA_REQUESTS, "Kafka requests, by API."),
    gauge_of(PARKED_ANSWERS, "Answers that wait until they are durable."),
    gauge_of(PARKED_FETCHES, "Fetches that wait for data."),
    counter_of(READ_ERRORS, "Reads of WAL files that failed."),
    gauge_of(TOPICS, "Topics."),
    counter_of(UPLINK_FRAMES, "Frames that gateways sent."),
    counter_of(
        UPLINK_PROTOCOL_ERRORS,
        "Uplink sessions that were ended because of what the gateway sent or who it is.",
    ),
    gauge_of(UPLINK_SESSIONS, "Uplink sessions that have their WELCOME."),
    counter_of(WAL_BYTES, "Bytes given to the write-ahead log."),
    gauge_of(WAL_FILES_POSSIBLE, "WAL files that can still be made, up to 64."),
    Metric {
        name: WAL_SYNC_SECONDS,
        kind: MetricKind::Histogram,
        help: "Time to write and sync a slot of the write-ahead log.",
    },
];

/// Tells the recorder what the metrics say.
pub(crate) fn describe() {
    for metric in METRICS {
        match metric.kind {
            MetricKind::Counter => describe_counter!(metric.name, metric.help),
            MetricKind::Gauge => describe_gauge!(metric.name, metric.help),
            MetricKind::Histogram => describe_histogram!(metric.name, metric.help),
        }
    }
}

pub(crate) fn broker(stats: &BrokerStats) {
    for (name, value) in [
        (PARKED_ANSWERS, stats.parked_answers),
        (PARKED_FETCHES, stats.parked_fetches),
        (TOPICS, stats.topics),
        (UPLINK_SESSIONS, stats.uplink_sessions),
    ] {
        gauge!(name).set(value as f64);
    }
}

pub(crate) fn writing(bytes: usize) {
    counter!(WAL_BYTES).increment(bytes as u64);
}

pub(crate) fn synced(after: Duration) {
    histogram!(WAL_SYNC_SECONDS).record(after.as_secs_f64());
}

pub(crate) fn disk(disk: &DiskSpace) {
    gauge!(DISK_FREE_BYTES).set(disk.free as f64);
    gauge!(DISK_TOTAL_BYTES).set(disk.total as f64);
}

pub(crate) fn room(report: &SpaceReport) {
    gauge!(DISK_BELOW_FLOOR).set(if report.below_floor { 1.0 } else { 0.0 });
    gauge!(WAL_FILES_POSSIBLE).set(report.files as f64);
}

pub(crate) fn kafka_request(api: &'static str) {
    counter!(KAFKA_REQUESTS, "api" => api).increment(1);
}

pub(crate) fn kafka_protocol_error() {
    counter!(KAFKA_PROTOCOL_ERRORS).increment(1);
}

pub(crate) fn kafka_refused() {
    counter!(KAFKA_CONNECTIONS_REFUSED).increment(1);
}

pub(crate) fn kafka_connections(open: usize) {
    gauge!(KAFKA_CONNECTIONS).set(open as f64);
}

pub(crate) fn read_error() {
    counter!(READ_ERRORS).increment(1);
}

pub(crate) fn uplink_frame() {
    counter!(UPLINK_FRAMES).increment(1);
}

pub(crate) fn uplink_protocol_error() {
    counter!(UPLINK_PROTOCOL_ERRORS).increment(1);
}

const fn counter_of(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Counter, help }
}

const fn gauge_of(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Gauge, help }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        assert!(METRICS.is_sorted_by_key(|metric| metric.name));
        for Metric { name, kind, help } in METRICS {
            assert!(name.starts_with("culvert_broker_"), "{name}");
            assert!(help.ends_with('.'), "{name}");
            let ends_in_total = name.ends_with("_total");
            assert_eq!(ends_in_total, *kind == MetricKind::Counter, "{name}");
            let in_seconds = name.ends_with("_seconds");
            assert_eq!(in_seconds, *kind == MetricKind::Histogram, "{name}");
        }
    }
}
