//! The gateway's metrics. Names are frozen: dashboards and alerts hang on them.

use gateway_core::gateway::Status;
use gateway_core::hub::{HubCounters, HubStatus};
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};

/// Connections that are open.
pub const CONNECTIONS: &str = "culvert_gateway_mqtt_connections";
/// Connections that ended because the client did wrong.
pub const CONNECTIONS_FAULTY: &str = "culvert_gateway_mqtt_connections_faulty_total";
/// Publishes that were turned down.
pub const PUBLISHES_REFUSED: &str = "culvert_gateway_mqtt_publishes_refused_total";
/// Sessions, connected or not.
pub const SESSIONS: &str = "culvert_gateway_mqtt_sessions";
/// Sessions given up because there were too many.
pub const SESSIONS_DISCARDED: &str = "culvert_gateway_mqtt_sessions_discarded_total";
/// Subscriptions of all sessions.
pub const SUBSCRIPTIONS: &str = "culvert_gateway_mqtt_subscriptions";
/// Messages handed to local subscribers' connections.
pub const FORWARDS: &str = "culvert_gateway_mqtt_forwards_total";
/// Messages that local subscribers did not get, by reason.
pub const FORWARDS_DROPPED: &str = "culvert_gateway_mqtt_forwards_dropped_total";
/// Messages that wait for local subscribers.
pub const QUEUED: &str = "culvert_gateway_mqtt_queued_messages";
/// What they take.
pub const QUEUED_BYTES: &str = "culvert_gateway_mqtt_queued_bytes";
/// Retained messages.
pub const RETAINED: &str = "culvert_gateway_mqtt_retained_messages";
/// What they take.
pub const RETAINED_BYTES: &str = "culvert_gateway_mqtt_retained_bytes";
/// Retained messages that found no room.
pub const RETAINED_REFUSED: &str = "culvert_gateway_mqtt_retained_refused_total";
/// Wills published.
pub const WILLS: &str = "culvert_gateway_mqtt_wills_total";
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
    describe_gauge!(SESSIONS, "MQTT sessions, connected or not");
    describe_counter!(SESSIONS_DISCARDED, "MQTT sessions given up because there were too many");
    describe_gauge!(SUBSCRIPTIONS, "MQTT subscriptions");
    describe_counter!(FORWARDS, "Messages handed to local subscribers");
    describe_counter!(FORWARDS_DROPPED, "Messages that local subscribers did not get, by reason");
    describe_gauge!(QUEUED, "Messages that wait for local subscribers");
    describe_gauge!(QUEUED_BYTES, "What the messages for local subscribers take");
    describe_gauge!(RETAINED, "Retained MQTT messages");
    describe_gauge!(RETAINED_BYTES, "What retained MQTT messages take");
    describe_counter!(RETAINED_REFUSED, "Retained MQTT messages that found no room");
    describe_counter!(WILLS, "MQTT wills published");
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

/// What the hub has to do with local subscribers. It counts what was dropped since `before`; connections count the rest.
pub fn record_hub(status: &HubStatus, before: &mut HubCounters) {
    let counters = &status.counters;
    gauge!(SESSIONS).set(status.sessions as f64);
    gauge!(SUBSCRIPTIONS).set(status.subscriptions as f64);
    gauge!(RETAINED).set(status.retained as f64);
    gauge!(RETAINED_BYTES).set(status.retained_bytes as f64);
    gauge!(QUEUED).set(status.queued as f64);
    gauge!(QUEUED_BYTES).set(status.queued_bytes as f64);
    counter!(FORWARDS).absolute(counters.forwarded);
    counter!(RETAINED_REFUSED).absolute(counters.retained_refused);
    counter!(SESSIONS_DISCARDED).absolute(counters.sessions_discarded);
    counter!(WILLS).absolute(counters.wills);
    for (reason, count) in &counters.dropped {
        let known = before.dropped.get(reason).copied().unwrap_or(0);
        counter!(FORWARDS_DROPPED, "reason" => reason.label()).increment(count - known);
    }
    before.clone_from(counters);
}

/// How long a batch of publishes waited for its sync.
pub fn record_commit(seconds: f64) {
    histogram!(COMMIT_SECONDS).record(seconds);
}
