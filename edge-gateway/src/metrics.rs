//! The gateway's metrics. Names are frozen: dashboards and alerts hang on them.

use gateway_core::gateway::Status;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Connections that are open.
pub const CONNECTIONS: &str = "culvert_gateway_mqtt_connections";
/// Connections that ended because the client did wrong.
pub const CONNECTIONS_FAULTY: &str = "culvert_gateway_mqtt_connections_faulty_total";
/// Publishes that were turned down.
pub const PUBLISHES_REFUSED: &str = "culvert_gateway_mqtt_publishes_refused_total";
/// From parsing a batch of publishes to the end of its sync.
pub const COMMIT_SECONDS: &str = "culvert_gateway_commit_seconds";
/// Readings taken in.
pub const READINGS_RECEIVED: &str = "culvert_gateway_readings_received_total";
/// Readings that the log acknowledged.
pub const READINGS_DELIVERED: &str = "culvert_gateway_readings_delivered_total";
/// Copies of readings that were stored already.
pub const READINGS_DEDUPLICATED: &str = "culvert_gateway_readings_deduplicated_total";
/// Readings dropped, by reason.
pub const READINGS_DROPPED: &str = "culvert_gateway_readings_dropped_total";
/// Readings that devices say their queues dropped.
pub const READINGS_LOST_BY_DEVICES: &str = "culvert_gateway_readings_lost_by_devices_total";
/// Readings on disk that the log has not acknowledged.
pub const SPOOL_READINGS: &str = "culvert_gateway_spool_readings";
/// Batches sent and not acknowledged.
pub const UPLINK_WINDOW: &str = "culvert_gateway_uplink_window_batches";
/// 1 while a session is up and data may flow.
pub const UPLINK_CONNECTED: &str = "culvert_gateway_uplink_connected";
/// 1 while the uplink is stopped and needs a person.
pub const UPLINK_ALARM: &str = "culvert_gateway_uplink_alarm";
/// Sessions that ended or could not be made.
pub const UPLINK_FAILURES: &str = "culvert_gateway_uplink_failures_total";
/// Bytes of record batches sent.
pub const UPLINK_SENT_BYTES: &str = "culvert_gateway_uplink_sent_bytes_total";

/// Says what each metric is; call once, after the recorder is installed.
pub fn describe() {
    describe_gauge!(CONNECTIONS, "MQTT connections that are open");
    describe_counter!(CONNECTIONS_FAULTY, "MQTT connections closed because the client did wrong");
    describe_counter!(PUBLISHES_REFUSED, "Publishes turned down, by reason");
    describe_histogram!(COMMIT_SECONDS, "Time from a batch of publishes to the end of its sync");
    describe_counter!(READINGS_RECEIVED, "Readings taken in since the spool was made");
    describe_counter!(READINGS_DELIVERED, "Readings that the log acknowledged");
    describe_counter!(READINGS_DEDUPLICATED, "Copies of readings that were stored already");
    describe_counter!(READINGS_DROPPED, "Readings dropped, by reason");
    describe_counter!(READINGS_LOST_BY_DEVICES, "Readings that devices say they dropped");
    describe_gauge!(SPOOL_READINGS, "Readings on disk that the log has not acknowledged");
    describe_gauge!(UPLINK_WINDOW, "Batches of the live lane without an acknowledgement");
    describe_gauge!(UPLINK_CONNECTED, "1 while a session is up and data may flow");
    describe_gauge!(UPLINK_ALARM, "1 while the uplink is stopped and needs a person");
    describe_counter!(UPLINK_FAILURES, "Uplink sessions that ended or could not be made");
    describe_counter!(UPLINK_SENT_BYTES, "Bytes of record batches sent, repeats included");
    counter!(UPLINK_FAILURES).absolute(0);
    counter!(UPLINK_SENT_BYTES).absolute(0);
    counter!(CONNECTIONS_FAULTY).absolute(0);
    gauge!(CONNECTIONS).set(0.0);
}

/// The ledger and the uplink's state.
pub fn record_status(status: &Status) {
    let ledger = &status.ledger;
    counter!(READINGS_RECEIVED).absolute(ledger.received);
    counter!(READINGS_DELIVERED).absolute(ledger.delivered);
    counter!(READINGS_DEDUPLICATED).absolute(ledger.deduplicated);
    counter!(READINGS_DROPPED, "reason" => "full").absolute(ledger.dropped_full);
    counter!(READINGS_LOST_BY_DEVICES).absolute(ledger.lost_by_devices);
    gauge!(SPOOL_READINGS).set(status.spooled as f64);
    gauge!(UPLINK_WINDOW).set(status.window as f64);
    gauge!(UPLINK_CONNECTED).set(f64::from(u8::from(status.connected)));
    gauge!(UPLINK_ALARM).set(f64::from(u8::from(status.alarm.is_some())));
}

/// How long a batch of publishes waited for its sync.
pub fn record_commit(seconds: f64) {
    histogram!(COMMIT_SECONDS).record(seconds);
}
