//! Identities. Each is a newtype, so that two of them cannot be swapped.

use core::fmt;

use serde::{Deserialize, Serialize};

/// Random id of a device's queue, made when the queue is formatted (every boot for a RAM ring).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct QueueId(pub u64);

impl fmt::Display for QueueId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// 128 random bits that name one spool database for its whole life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SpoolId(pub [u8; 16]);

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// A topic's UUID: a topic that is deleted and made again gets another one.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct TopicId(pub [u8; 16]);

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// One life of a broker process: 128 random bits made at every start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Incarnation(pub [u8; 16]);

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

/// Index of a partition within its topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Partition(pub u32);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Random id of one assigned batch of the uplink. The last tag of a stream names its whole history.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Tag(pub u64);

impl Tag {
    /// The tag before the first batch of a stream.
    pub const NIL: Self = Self(0);
}

/// Which of a spool's ordered queues a reading travels in. Each lane has a producer id of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum Lane {
    /// Session records and watermarks (`culvert.gateways`): always first on a new session.
    Control = 0,
    /// What devices publish.
    Live = 1,
}

impl Lane {
    /// Every lane, in the order in which they are served.
    pub const ALL: [Self; 2] = [Self::Control, Self::Live];

    /// The lane with this number, if there is one.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|lane| *lane as u8 == number)
    }
}

/// A producer id. Gateways live at and above [`ProducerId::UPLINK_MIN`]; Kafka's own producers below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProducerId(pub i64);

impl ProducerId {
    /// The first id of the uplink's half: Kafka's `Produce` refuses ids from here on.
    pub const UPLINK_MIN: Self = Self(1 << 62);

    /// Whether this id belongs to a gateway's lane.
    #[must_use]
    pub fn is_uplink(self) -> bool {
        self >= Self::UPLINK_MIN
    }

    /// The id of one lane of one spool: 2⁶² + 62 bits of a hash over the gateway id of the certificate, the spool id and
    /// the lane (docs/protocols/uplink.md, "Identities").
    #[cfg(feature = "std")]
    #[must_use]
    pub fn of_lane(gateway: &GatewayId, spool: SpoolId, lane: Lane) -> Self {
        use sha2::{Digest, Sha256};
        let mut hash = Sha256::new();
        hash.update(b"culvert pid v1\0");
        hash.update(gateway.as_str().as_bytes());
        hash.update([0]);
        hash.update(spool.0);
        hash.update([lane as u8]);
        let digest = hash.finalize();
        let mut first = [0; 8];
        first.copy_from_slice(&digest[..8]);
        let low = u64::from_be_bytes(first) >> 2;
        Self(Self::UPLINK_MIN.0 | i64::try_from(low).expect("62 bits fit"))
    }
}

/// Name of a gateway: what its certificate says. 1 to [`GatewayId::LEN_MAX`] of `A–Z a–z 0–9 . _ -`.
#[cfg(feature = "std")]
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GatewayId(alloc::string::String);

#[cfg(feature = "std")]
impl GatewayId {
    /// Longest gateway id, in bytes: what a certificate's common name holds.
    pub const LEN_MAX: usize = 64;

    /// Checks and takes a gateway id; `None` if it is empty, too long or has another character.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        let fits = (1..=Self::LEN_MAX).contains(&name.len()) && name.bytes().all(allowed);
        fits.then(|| Self(name.into()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(feature = "std")]
impl fmt::Display for GatewayId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

fn hex(bytes: &[u8], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

#[cfg(all(test, feature = "std"))]
mod tests {
    use super::*;

    #[test]
    fn lane_pids_differ_and_lie_in_the_uplink_half() {
        let gateway = GatewayId::new("plant-1").unwrap();
        let other = GatewayId::new("plant-2").unwrap();
        let (spool, spool2) = (SpoolId([7; 16]), SpoolId([8; 16]));
        let pids = [
            ProducerId::of_lane(&gateway, spool, Lane::Live),
            ProducerId::of_lane(&gateway, spool, Lane::Control),
            ProducerId::of_lane(&gateway, spool2, Lane::Live),
            ProducerId::of_lane(&other, spool, Lane::Live),
        ];
        for (i, pid) in pids.iter().enumerate() {
            assert!(pid.is_uplink() && pid.0 > 0);
            assert!(!pids[..i].contains(pid));
        }
        assert!(!ProducerId(-1).is_uplink());
    }

    #[test]
    fn gateway_ids_are_checked() {
        for bad in ["", "a b", "ü", "a/b", &"x".repeat(65)] {
            assert_eq!(GatewayId::new(bad), None, "{bad:?}");
        }
        assert!(GatewayId::new(&"x".repeat(64)).is_some());
    }
}
