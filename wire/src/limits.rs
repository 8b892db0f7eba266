//! Every limit that two products share. Limits of one product stand beside the code that holds them.

/// Largest MQTT packet a gateway takes unless it is configured otherwise, in bytes, fixed header included.
pub const MQTT_PACKET_BYTES_DEFAULT: usize = 1 << 20;

/// Largest MQTT packet a gateway may be configured to take, in bytes.
pub const MQTT_PACKET_BYTES_MAX: usize = 4 << 20;

/// Largest record batch the log stores, in bytes (Kafka's `max.message.bytes`).
pub const RECORD_BATCH_BYTES_MAX: usize = 8 << 20;

/// What a gateway aims at for one batch of the uplink, in bytes before compression.
pub const UPLINK_BATCH_BYTES_TARGET: usize = 512 << 10;

/// Most readings in one batch of the uplink.
pub const UPLINK_BATCH_READINGS_MAX: u32 = 16_384;

/// Largest uplink frame, in bytes after its length field: a full record batch and the frame's own fields.
pub const UPLINK_FRAME_BYTES_MAX: usize = RECORD_BATCH_BYTES_MAX + (64 << 10);

/// Largest uplink frame before HELLO was accepted, in bytes.
pub const UPLINK_HANDSHAKE_BYTES_MAX: usize = 64 << 10;

/// Most topics that one HELLO may name.
pub const UPLINK_TOPICS_MAX: usize = 256;

/// Unacknowledged frames that a lane may have in flight: an object store takes about 100 ms to acknowledge.
pub const UPLINK_LANE_FRAMES_MIN: usize = 32;

/// Longest topic name of the log, in bytes (Kafka's own limit).
pub const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Partitions of a topic that is made because a gateway's route names it.
pub const ROUTE_TOPIC_PARTITIONS: u32 = 12;

/// The topic of session records and watermarks; one partition, key = gateway id.
pub const CONTROL_TOPIC: &str = "culvert.gateways";

/// The topic of the default route.
pub const DEFAULT_TOPIC: &str = "telemetry";

// A packet's topic, payload and properties must fit a batch with room for the record's own fields, whatever is configured.
const _: () = assert!(MQTT_PACKET_BYTES_MAX * 2 <= RECORD_BATCH_BYTES_MAX);
const _: () = assert!(MQTT_PACKET_BYTES_DEFAULT <= MQTT_PACKET_BYTES_MAX);
const _: () = assert!(UPLINK_BATCH_BYTES_TARGET <= RECORD_BATCH_BYTES_MAX);
const _: () = assert!(UPLINK_HANDSHAKE_BYTES_MAX <= UPLINK_FRAME_BYTES_MAX);
const _: () = assert!(UPLINK_TOPICS_MAX * (TOPIC_NAME_BYTES_MAX + 2) <= UPLINK_HANDSHAKE_BYTES_MAX);

/// Whether `name` may name a topic of the log: 1 to 249 of `A–Z a–z 0–9 . _ -`, neither `.` nor `..` (Kafka's rule).
#[must_use]
pub fn is_topic_name(name: &str) -> bool {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    (1..=TOPIC_NAME_BYTES_MAX).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(allowed)
}
