//! The user properties by which any MQTT 5 client numbers its readings, and so has each stored once, or says that it may
//! have sent one before.

use thiserror::Error;
use wire::ids::QueueId;
use wire::seq::DeviceSeq;

use super::text::Text;

/// User property with the id of the device's queue: decimal, 0 to 2⁶⁴ − 1.
pub const QUEUE_PROPERTY: &str = "cv-queue";

/// User property with the sequence of the publish's first reading: decimal, from 1.
pub const SEQUENCE_PROPERTY: &str = "cv-seq";

/// User property with the readings that the device's queue dropped right before this one: decimal. May be left out.
pub const LOST_PROPERTY: &str = "cv-lost";

/// User property of a publish, numbered or not, of which a copy may be in the log already: `1`.
pub const MAYBE_DUP_PROPERTY: &str = "cv-maybe-dup";

/// Longest number, in digits: 2⁶⁴ − 1 has twenty.
const DIGITS_MAX: usize = 20;

/// Where a publish stands in its device's queue (docs/protocols/uplink.md, D2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceSequence {
    /// The queue that numbers it.
    pub queue: QueueId,
    /// Sequence of the first reading, at least 1.
    pub first: DeviceSeq,
    /// Readings that the queue dropped right before; less than `first`.
    pub lost_before: u64,
}

/// What is wrong with the numbering of a publish.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SequenceFault {
    /// One of the properties came twice.
    #[error("a property came twice")]
    Duplicate,
    /// `cv-queue` and `cv-seq` belong together, and `cv-lost` to both.
    #[error("{QUEUE_PROPERTY} and {SEQUENCE_PROPERTY} must both be there")]
    Incomplete,
    /// More readings lost than there are numbers before this one.
    #[error("{LOST_PROPERTY} must be less than {SEQUENCE_PROPERTY}")]
    LostTooMany,
    /// `cv-maybe-dup` says something else than `1`.
    #[error("{MAYBE_DUP_PROPERTY} can only be 1")]
    MaybeDup,
    /// A value is not a decimal number of 64 bits.
    #[error("a value is not a decimal number below 2^64")]
    NotANumber,
    /// Sequences start at 1.
    #[error("{SEQUENCE_PROPERTY} starts at 1")]
    Zero,
}

/// Collects these properties while a packet's others are read.
#[derive(Debug, Default)]
pub(super) struct SequenceProperties {
    queue: Option<u64>,
    first: Option<u64>,
    lost: Option<u64>,
    maybe_dup: bool,
    fault: Option<SequenceFault>,
}

impl SequenceProperties {
    /// Takes the property if it is one of these; says whether it was.
    pub(super) fn take(&mut self, name: &Text, value: &Text) -> bool {
        if name.as_str() == MAYBE_DUP_PROPERTY {
            self.take_maybe_dup(value);
            return true;
        }
        let slot = match name.as_str() {
            QUEUE_PROPERTY => &mut self.queue,
            SEQUENCE_PROPERTY => &mut self.first,
            LOST_PROPERTY => &mut self.lost,
            _ => return false,
        };
        let fault = match (slot.is_some(), decimal(value.as_str())) {
            (true, _) => Some(SequenceFault::Duplicate),
            (false, None) => Some(SequenceFault::NotANumber),
            (false, number) => {
                *slot = number;
                None
            }
        };
        self.fault = self.fault.or(fault);
        true
    }

    fn take_maybe_dup(&mut self, value: &Text) {
        let fault = match (self.maybe_dup, value.as_str()) {
            (true, _) => Some(SequenceFault::Duplicate),
            (false, "1") => None,
            (false, _) => Some(SequenceFault::MaybeDup),
        };
        self.maybe_dup = true;
        self.fault = self.fault.or(fault);
    }

    /// Whether a copy may be in the log already.
    pub(super) fn is_maybe_dup(&self) -> bool {
        self.maybe_dup
    }

    /// The sequence, if the packet has one.
    pub(super) fn finish(self) -> Result<Option<DeviceSequence>, SequenceFault> {
        if let Some(fault) = self.fault {
            return Err(fault);
        }
        let (queue, first) = match (self.queue, self.first, self.lost) {
            (None, None, None) => return Ok(None),
            (Some(queue), Some(first), _) => (queue, first),
            (None, _, _) | (_, None, _) => return Err(SequenceFault::Incomplete),
        };
        let lost_before = self.lost.unwrap_or(0);
        if first == 0 {
            return Err(SequenceFault::Zero);
        }
        if lost_before >= first {
            return Err(SequenceFault::LostTooMany);
        }
        Ok(Some(DeviceSequence { queue: QueueId(queue), first: DeviceSeq(first), lost_before }))
    }
}

/// Digits only: the standard library's parser would take a plus sign too.
fn decimal(text: &str) -> Option<u64> {
    let plain = text.len() <= DIGITS_MAX && text.bytes().all(|byte| byte.is_ascii_digit());
    if plain { text.parse().ok() } else { None }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    #[test]
    fn table_of_numberings() {
        let taken = |queue, first, lost_before| {
            Ok(Some(DeviceSequence { queue: QueueId(queue), first: DeviceSeq(first), lost_before }))
        };
        let (queue, seq, lost) = (QUEUE_PROPERTY, SEQUENCE_PROPERTY, LOST_PROPERTY);
        let dup = MAYBE_DUP_PROPERTY;
        let max = "18446744073709551615";
        type Row<'a> = (&'a [(&'a str, &'a str)], Result<Option<DeviceSequence>, SequenceFault>);
        let table: &[Row<'_>] = &[
            (&[], Ok(None)),
            (&[("other", "x")], Ok(None)),
            (&[(queue, "7"), (seq, "1")], taken(7, 1, 0)),
            (&[(seq, "9"), ("other", ""), (queue, "0")], taken(0, 9, 0)),
            (&[(queue, max), (seq, max)], taken(u64::MAX, u64::MAX, 0)),
            (&[(queue, "1"), (seq, "5"), (lost, "4")], taken(1, 5, 4)),
            (&[(queue, "007"), (seq, "01")], taken(7, 1, 0)),
            (&[(queue, "1"), (seq, "5"), (lost, "5")], Err(SequenceFault::LostTooMany)),
            (&[(queue, "1"), (seq, "0")], Err(SequenceFault::Zero)),
            (&[(queue, "1")], Err(SequenceFault::Incomplete)),
            (&[(seq, "1")], Err(SequenceFault::Incomplete)),
            (&[(lost, "1")], Err(SequenceFault::Incomplete)),
            (&[(seq, "1"), (lost, "0")], Err(SequenceFault::Incomplete)),
            (&[(queue, "1"), (seq, "1"), (seq, "1")], Err(SequenceFault::Duplicate)),
            (&[(queue, ""), (seq, "1")], Err(SequenceFault::NotANumber)),
            (&[(queue, "1"), (seq, "+1")], Err(SequenceFault::NotANumber)),
            (&[(queue, "1"), (seq, "-1")], Err(SequenceFault::NotANumber)),
            (&[(queue, "1"), (seq, " 1")], Err(SequenceFault::NotANumber)),
            (&[(queue, "0x1"), (seq, "1")], Err(SequenceFault::NotANumber)),
            (&[(queue, "1"), (seq, "18446744073709551616")], Err(SequenceFault::NotANumber)),
            (&[(queue, "1"), (seq, "000000000000000000001")], Err(SequenceFault::NotANumber)),
            (&[(queue, "1"), (seq, "1"), (lost, "x")], Err(SequenceFault::NotANumber)),
            (&[(dup, "1")], Ok(None)),
            (&[(queue, "7"), (dup, "1"), (seq, "1")], taken(7, 1, 0)),
            (&[(dup, "1"), (dup, "1")], Err(SequenceFault::Duplicate)),
            (&[(dup, "0")], Err(SequenceFault::MaybeDup)),
            (&[(dup, "")], Err(SequenceFault::MaybeDup)),
        ];
        for (properties, expected) in table {
            let mut collected = SequenceProperties::default();
            for (name, value) in *properties {
                let text = |s: &str| Text::new(Bytes::copy_from_slice(s.as_bytes())).unwrap();
                assert_eq!(collected.take(&text(name), &text(value)), name.starts_with("cv-"));
            }
            let flagged = properties.iter().any(|(name, _)| *name == dup);
            assert_eq!(collected.is_maybe_dup(), flagged, "{properties:?}");
            assert_eq!(collected.finish(), *expected, "{properties:?}");
        }
    }
}
