//! What a numbered reading is: new, a copy, or out of order (docs/protocols/uplink.md, D2).
//!
//! The decision is made inside the transaction that stores the reading, so that a rollback undoes it too.

use wire::ids::QueueId;
use wire::seq::DeviceSeq;

/// Queue ids kept per device: a device that is re-flashed or reboots with a RAM queue brings a new one each time (D3).
pub const QUEUES_PER_DEVICE: usize = 4;

/// A device's batch, as far as deduplication cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Numbered {
    /// Sequence of the first reading.
    pub first: DeviceSeq,
    /// Readings, at least 1.
    pub count: u64,
    /// Readings that the device's own queue dropped right before.
    pub lost_before: u64,
}

/// The queues that a connection has published for. Only the first publish for a queue may jump forward.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueuesSeen {
    queues: [QueueId; QUEUES_PER_DEVICE],
    len: usize,
}

impl Default for QueuesSeen {
    fn default() -> Self {
        Self { queues: [QueueId(0); QUEUES_PER_DEVICE], len: 0 }
    }
}

impl QueuesSeen {
    /// Whether a publish for `queue` may jump. Beyond [`QUEUES_PER_DEVICE`] none may: more are not kept either.
    #[must_use]
    pub fn may_jump(&self, queue: QueueId) -> bool {
        self.len < QUEUES_PER_DEVICE && !self.queues[..self.len].contains(&queue)
    }

    /// There was a publish for `queue`.
    pub fn note(&mut self, queue: QueueId) {
        if self.may_jump(queue) {
            self.queues[self.len] = queue;
            self.len += 1;
        }
    }
}

/// What to do with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// All of it is stored already: acknowledge, store nothing.
    Copy,
    /// It is neither next nor a copy: refuse, and close the connection, or a later publish would be taken in its place.
    Refuse {
        /// What would have been taken.
        expected: DeviceSeq,
    },
    /// Store it; the device's last sequence becomes this.
    Take {
        /// Last sequence of the batch.
        last: DeviceSeq,
    },
}

/// Decides by the last sequence stored for (device, queue), 0 if there is none. The first publish of a connection for
/// a queue may jump forward: the readings between were acknowledged by another gateway or dropped by the device.
#[must_use]
pub fn decide(last: DeviceSeq, batch: Numbered, may_jump: bool) -> Decision {
    let expected = DeviceSeq(last.0.saturating_add(batch.lost_before).saturating_add(1));
    let Some(end) = batch.first.0.checked_add(batch.count.saturating_sub(1)) else {
        return Decision::Refuse { expected };
    };
    if end <= last.0 {
        Decision::Copy
    } else if batch.first == expected || (may_jump && batch.first > last) {
        Decision::Take { last: DeviceSeq(end) }
    } else {
        Decision::Refuse { expected }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_queue_jumps_once_as_long_as_they_are_counted() {
        let mut seen = QueuesSeen::default();
        for queue in 0..QUEUES_PER_DEVICE as u64 {
            assert!(seen.may_jump(QueueId(queue)), "{queue}");
            seen.note(QueueId(queue));
            seen.note(QueueId(queue));
            assert!(!seen.may_jump(QueueId(queue)), "{queue}");
        }
        assert!(!seen.may_jump(QueueId(99)));
        seen.note(QueueId(99));
    }

    #[test]
    fn table_of_d2() {
        let refuse = |expected| Decision::Refuse { expected: DeviceSeq(expected) };
        let take = |last| Decision::Take { last: DeviceSeq(last) };
        // (last, first, count, lost_before, first of connection) → decision
        let table = [
            ((0, 1, 1, 0, true), take(1)),
            ((0, 1, 1, 0, false), take(1)),
            ((0, 5, 1, 0, true), take(5)),
            ((0, 5, 1, 0, false), refuse(1)),
            ((4, 5, 3, 0, false), take(7)),
            ((4, 4, 1, 0, false), Decision::Copy),
            ((4, 1, 4, 0, true), Decision::Copy),
            ((4, 4, 2, 0, true), refuse(5)),
            ((4, 3, 3, 0, false), refuse(5)),
            ((4, 7, 1, 0, false), refuse(5)),
            ((4, 7, 1, 0, true), take(7)),
            ((4, 7, 1, 2, false), take(7)),
            ((4, 7, 1, 1, false), refuse(6)),
            ((4, u64::MAX, 2, 0, true), refuse(5)),
            ((u64::MAX, 1, 1, 9, false), Decision::Copy),
        ];
        for ((last, first, count, lost_before, fresh), expected) in table {
            let batch = Numbered { first: DeviceSeq(first), count, lost_before };
            let row = format!("last {last}, {batch:?}, fresh {fresh}");
            assert_eq!(decide(DeviceSeq(last), batch, fresh), expected, "{row}");
        }
    }
}
