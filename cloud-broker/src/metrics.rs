//! The metrics of the broker. Their names are frozen: dashboards and alerts are built on them (docs/operating.md).

use std::time::Duration;

use broker_core::BrokerStats;
use broker_log::{JobDone, LogUsage, RecoveryReport};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

use crate::job_threads::JobReport;
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

const CHECKPOINT_AGE_MS: &str = "culvert_broker_checkpoint_age_ms";
const CHECKPOINT_BYTES: &str = "culvert_broker_checkpoint_bytes";
const DAMAGE: &str = "culvert_broker_damage_total";
const DISK_BELOW_FLOOR: &str = "culvert_broker_disk_below_floor";
const DISK_FREE_BYTES: &str = "culvert_broker_disk_free_bytes";
const DISK_TOTAL_BYTES: &str = "culvert_broker_disk_total_bytes";
const JOB_READ_BYTES: &str = "culvert_broker_job_read_bytes_total";
const JOB_SECONDS: &str = "culvert_broker_job_seconds";
const JOB_WRITTEN_BYTES: &str = "culvert_broker_job_written_bytes_total";
const JOBS: &str = "culvert_broker_jobs_total";
const KAFKA_CONNECTIONS: &str = "culvert_broker_kafka_connections";
const KAFKA_CONNECTIONS_REFUSED: &str = "culvert_broker_kafka_connections_refused_total";
const KAFKA_PROTOCOL_ERRORS: &str = "culvert_broker_kafka_protocol_errors_total";
const KAFKA_REQUESTS: &str = "culvert_broker_kafka_requests_total";
const LOG_BYTES: &str = "culvert_broker_log_bytes";
const LOG_INDEX_ENTRIES: &str = "culvert_broker_log_index_entries";
const LOG_UNITS: &str = "culvert_broker_log_units";
const PARKED_ANSWERS: &str = "culvert_broker_parked_answers";
const PARKED_FETCHES: &str = "culvert_broker_parked_fetches";
const READ_ERRORS: &str = "culvert_broker_read_errors_total";
const RECOVERY_MS: &str = "culvert_broker_recovery_ms";
const RECOVERY_SLOTS: &str = "culvert_broker_recovery_slots";
const TOPICS: &str = "culvert_broker_topics";
const UPLINK_FRAMES: &str = "culvert_broker_uplink_frames_total";
const UPLINK_PROTOCOL_ERRORS: &str = "culvert_broker_uplink_protocol_errors_total";
const UPLINK_SESSIONS: &str = "culvert_broker_uplink_sessions";
const WAL_BYTES_SINCE_CHECKPOINT: &str = "culvert_broker_wal_bytes_since_checkpoint";
const WAL_BYTES: &str = "culvert_broker_wal_bytes_total";
const WAL_FILES_POSSIBLE: &str = "culvert_broker_wal_files_possible";
const WAL_SYNC_SECONDS: &str = "culvert_broker_wal_sync_seconds";
const WAL_SYNC_STUCK: &str = "culvert_broker_wal_sync_stuck";
const WRITE_AMPLIFICATION: &str = "culvert_broker_write_amplification";

/// All of them, by name.
pub const METRICS: &[Metric] = &[
    gauge_of(CHECKPOINT_AGE_MS, "Milliseconds since the last checkpoint of this life."),
    gauge_of(CHECKPOINT_BYTES, "Bytes of the last checkpoint."),
    counter_of(DAMAGE, "Reads that met bytes which are not what was written."),
    gauge_of(DISK_BELOW_FLOOR, "Whether too little of the disk is free to take anything in."),
    gauge_of(DISK_FREE_BYTES, "Bytes of the log's disk that are free."),
    gauge_of(DISK_TOTAL_BYTES, "Bytes of the log's disk."),
    counter_of(JOB_READ_BYTES, "Bytes that jobs read, by kind."),
    histogram_of(JOB_SECONDS, "Time that jobs took, by kind."),
    counter_of(JOB_WRITTEN_BYTES, "Bytes that jobs wrote, by kind."),
    counter_of(JOBS, "Jobs beside the engine, by kind and result."),
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
    gauge_of(LOG_BYTES, "Bytes of the log, by what they are."),
    gauge_of(LOG_INDEX_ENTRIES, "Entries of the index in memory, by what they are."),
    gauge_of(LOG_UNITS, "Files of the log, by what they are."),
    gauge_of(PARKED_ANSWERS, "Answers that wait until they are durable."),
    gauge_of(PARKED_FETCHES, "Fetches that wait for data."),
    counter_of(READ_ERRORS, "Reads of the log that the disk refused."),
    gauge_of(RECOVERY_MS, "Milliseconds that opening the log took at the start."),
    gauge_of(RECOVERY_SLOTS, "Slots that were replayed at the start."),
    gauge_of(TOPICS, "Topics."),
    counter_of(UPLINK_FRAMES, "Frames that gateways sent."),
    counter_of(
        UPLINK_PROTOCOL_ERRORS,
        "Uplink sessions that were ended because of what the gateway sent or who it is.",
    ),
    gauge_of(UPLINK_SESSIONS, "Uplink sessions that have their WELCOME."),
    gauge_of(WAL_BYTES_SINCE_CHECKPOINT, "Bytes of the write-ahead log that a start would replay."),
    counter_of(WAL_BYTES, "Bytes given to the write-ahead log."),
    gauge_of(WAL_FILES_POSSIBLE, "WAL files that can still be made, up to 64."),
    histogram_of(WAL_SYNC_SECONDS, "Time to write and sync a slot of the write-ahead log."),
    gauge_of(WAL_SYNC_STUCK, "Whether a sync has taken more than 10 s and goes on."),
    gauge_of(
        WRITE_AMPLIFICATION,
        "Bytes of slots and of what jobs wrote, for each byte of slots, since the start.",
    ),
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
    gauge!(DISK_BELOW_FLOOR).set(f64::from(u8::from(report.below_floor)));
    gauge!(WAL_FILES_POSSIBLE).set(report.files as f64);
}

pub(crate) fn sync_stuck(is_stuck: bool) {
    gauge!(WAL_SYNC_STUCK).set(f64::from(u8::from(is_stuck)));
}

pub(crate) fn recovered(report: &RecoveryReport, took_ms: u64) {
    gauge!(RECOVERY_MS).set(took_ms as f64);
    gauge!(RECOVERY_SLOTS).set(report.slots as f64);
}

pub(crate) fn damage() {
    counter!(DAMAGE).increment(1);
}

pub(crate) fn job(report: &JobReport) {
    let kind = report.kind;
    let result = if matches!(report.done, JobDone::Failed { .. }) { "failed" } else { "done" };
    counter!(JOBS, "kind" => kind, "result" => result).increment(1);
    histogram!(JOB_SECONDS, "kind" => kind).record(report.took.as_secs_f64());
    counter!(JOB_READ_BYTES, "kind" => kind).increment(report.traffic.read);
    counter!(JOB_WRITTEN_BYTES, "kind" => kind).increment(report.traffic.written);
}

pub(crate) fn log_usage(usage: &LogUsage) {
    for (kind, bytes) in [
        ("live", usage.live_bytes),
        ("units", usage.unit_bytes),
        ("unsorted", usage.l0_bytes),
        ("dead", usage.dead_bytes),
    ] {
        gauge!(LOG_BYTES, "kind" => kind).set(bytes as f64);
    }
    for (kind, files) in
        [("wal", usage.wal_files), ("units", usage.units), ("dead", usage.dead_units)]
    {
        gauge!(LOG_UNITS, "kind" => kind).set(files as f64);
    }
    for (kind, entries) in [("extents", usage.extents), ("runs", usage.runs)] {
        gauge!(LOG_INDEX_ENTRIES, "kind" => kind).set(entries as f64);
    }
    gauge!(CHECKPOINT_BYTES).set(usage.checkpoint_bytes as f64);
    gauge!(WAL_BYTES_SINCE_CHECKPOINT).set(usage.wal_bytes_since_checkpoint as f64);
}

pub(crate) fn checkpoint_age(age: Duration) {
    gauge!(CHECKPOINT_AGE_MS).set(age.as_millis() as f64);
}

pub(crate) fn write_amplification(factor: f64) {
    gauge!(WRITE_AMPLIFICATION).set(factor);
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

const fn histogram_of(name: &'static str, help: &'static str) -> Metric {
    Metric { name, kind: MetricKind::Histogram, help }
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
