//! What was taken in and is not on disk yet.

use std::collections::BTreeMap;

use broker_log::SlotNo;

/// Bytes that were appended and are not durable, by the last slot they may be in. What was turned away counts too, until
/// that slot is durable: it only makes the broker a little more careful.
#[derive(Debug, Default)]
pub(super) struct Undurable {
    by_slot: BTreeMap<SlotNo, usize>,
    /// All of them together.
    pub(super) bytes: usize,
}

impl Undurable {
    pub(super) fn add(&mut self, slot_no: SlotNo, bytes: usize) {
        *self.by_slot.entry(slot_no).or_default() += bytes;
        self.bytes += bytes;
    }

    pub(super) fn durable(&mut self, slot_no: SlotNo) {
        while let Some(first) = self.by_slot.first_entry() {
            if *first.key() > slot_no {
                break;
            }
            self.bytes -= first.remove();
        }
    }
}
