//! Sequence numbers: a device's (one per reading, for ever) and an uplink stream's (Kafka's, which wrap).

use core::fmt;

use serde::{Deserialize, Serialize};

/// Number of one reading in its device's queue; the first is 1, so 0 means "none yet".
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct DeviceSeq(pub u64);

impl DeviceSeq {
    /// Before the first reading.
    pub const NONE: Self = Self(0);
}

impl fmt::Display for DeviceSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Sequence number of one reading in an uplink stream: Kafka's base sequence, 0 to 2³¹ − 1, then 0 again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct StreamSeq(i32);

impl StreamSeq {
    /// The first sequence of an epoch.
    pub const ZERO: Self = Self(0);

    /// Takes a number from the wire or the disk; `None` if it is negative.
    #[must_use]
    pub fn new(number: i32) -> Option<Self> {
        (number >= 0).then_some(Self(number))
    }

    /// The number, never negative.
    #[must_use]
    pub fn get(self) -> i32 {
        self.0
    }

    /// The sequence `count` further on, wrapping from 2³¹ − 1 to 0 as Kafka's do.
    #[must_use]
    pub fn plus(self, count: u32) -> Self {
        let sum = (i64::from(self.0) + i64::from(count)) & i64::from(i32::MAX);
        Self(i32::try_from(sum).expect("masked to 31 bits"))
    }

    /// The last sequence of a batch of `count` readings that begins here; `count` is at least 1.
    #[must_use]
    pub fn last_of(self, count: u32) -> Self {
        self.plus(count.saturating_sub(1))
    }
}

/// Epoch of an uplink stream; changes only by RESET.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct StreamEpoch(pub i16);

impl StreamEpoch {
    /// The epoch every stream starts with.
    pub const FIRST: Self = Self(0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_wrap_as_kafkas_do() {
        let end = StreamSeq::new(i32::MAX).unwrap();
        assert_eq!(end.plus(1), StreamSeq::ZERO);
        assert_eq!(end.last_of(1), end);
        assert_eq!(end.last_of(3), StreamSeq(1));
        assert_eq!(StreamSeq::ZERO.plus(5), StreamSeq(5));
        assert_eq!(StreamSeq::new(-1), None);
    }
}
