//! Every limit of the MQTT edge.

use std::num::{NonZeroU16, NonZeroU32};

/// A CONNECT must have arrived whole this long after the network connection was made; milliseconds.
pub const CONNECT_DEADLINE_MS: u64 = 10_000;

/// Longest CONNECT packet, in bytes. It is read before anybody is authenticated, so it is kept small; certificates
/// and tokens fit many times over.
pub const CONNECT_PACKET_LEN_MAX: u32 = 64 * 1024;

/// Longest packet other than CONNECT and PUBLISH, in bytes: these are decoded into many small allocations.
pub const CONTROL_PACKET_LEN_MAX: u32 = 256 * 1024;

/// Longest client identifier, in bytes. It becomes a record key.
pub const CLIENT_ID_LEN_MAX: usize = 512;

/// Topic aliases that an MQTT 5 client may use (v5 3.2.2.3.8).
pub const TOPIC_ALIAS_MAX: u16 = 16;

/// Longest topic name of a publish, in bytes; the protocol would allow 65,535. It becomes a record header.
pub const TOPIC_LEN_MAX: usize = 4_096;

/// Longest topic filter, in bytes: nothing longer matches a topic that may be published to.
pub const FILTER_LEN_MAX: usize = TOPIC_LEN_MAX;

/// Levels of a topic filter: the depth to which the tree of subscriptions is walked.
pub const FILTER_LEVELS_MAX: usize = 128;

/// QoS 1 and 2 publishes to one client whose acknowledgement is missing; a client may set a lower limit. Raising it costs
/// memory per subscriber.
pub const INFLIGHT_MAX: usize = 128;

/// What they may take together, in bytes. A larger one is sent alone.
pub const INFLIGHT_BYTES_MAX: usize = 1024 * 1024;

/// QoS 2 publishes of one session that are stored and not released. A client that never releases is disconnected here.
pub const UNRELEASED_MAX: u16 = 4_096;

/// Messages that a connection takes from its queue before it tells that they are sent.
pub const CREDIT_WORTH: usize = 32;

/// User properties that one publish may carry.
pub const USER_PROPERTIES_MAX: usize = 64;

/// Bytes that the names and values of one publish's user properties may have together.
pub const USER_PROPERTIES_LEN_MAX: usize = 16 * 1024;

/// Default of [`MqttLimits::packet_len_max`].
pub const PACKET_LEN_MAX_DEFAULT: NonZeroU32 = NonZeroU32::new(1024 * 1024).expect("not zero");

/// Default of [`MqttLimits::receive_max`].
pub const RECEIVE_MAX_DEFAULT: NonZeroU16 = NonZeroU16::new(1_024).expect("not zero");

/// Default of [`MqttLimits::unacknowledged_bytes_max`].
pub const UNACKNOWLEDGED_BYTES_MAX_DEFAULT: usize = 4 * 1024 * 1024;

/// New bytes of an incomplete packet that count as a sign of life. A slow link may need longer than the keep-alive
/// time for one large packet, and closing it then would make it start over for ever.
pub(super) const PROGRESS_LEN_MIN: usize = 1_024;

const _: () = assert!(CONNECT_PACKET_LEN_MAX <= CONTROL_PACKET_LEN_MAX);
const _: () = assert!(CONTROL_PACKET_LEN_MAX <= PACKET_LEN_MAX_DEFAULT.get());
const _: () = assert!(CLIENT_ID_LEN_MAX < CONNECT_PACKET_LEN_MAX as usize);
const _: () = assert!(TOPIC_LEN_MAX <= u16::MAX as usize);

/// Limits of one connection that an operator may set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MqttLimits {
    /// Longest packet, in bytes with its fixed header; announced to MQTT 5 clients. Raising it costs that much memory
    /// per connection that sends such packets.
    pub packet_len_max: NonZeroU32,
    /// QoS 1 publishes that a client may have unacknowledged; announced to MQTT 5 clients, which are disconnected
    /// beyond it. Raising it costs memory per connection.
    pub receive_max: NonZeroU16,
    /// Bytes of unacknowledged publishes at which a connection is not read any further. One packet may overshoot it.
    pub unacknowledged_bytes_max: usize,
}

impl MqttLimits {
    /// Publishes of any QoS, unacknowledged, at which a connection is not read any further. It lies beyond
    /// `receive_max`, because a client that breaks that limit can only be caught by reading its publish.
    #[must_use]
    pub fn unacknowledged_max(&self) -> usize {
        2 * usize::from(self.receive_max.get())
    }
}

impl Default for MqttLimits {
    fn default() -> Self {
        Self {
            packet_len_max: PACKET_LEN_MAX_DEFAULT,
            receive_max: RECEIVE_MAX_DEFAULT,
            unacknowledged_bytes_max: UNACKNOWLEDGED_BYTES_MAX_DEFAULT,
        }
    }
}
