//! The slots that were written last, kept in memory: most readers are at the end of the log.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::ids::FileNo;
use crate::partition::Run;

/// A first-in, first-out ring of durable slots within a budget of bytes.
#[derive(Debug)]
pub(crate) struct Tail {
    slots: VecDeque<TailSlot>,
    bytes: usize,
    bytes_max: usize,
}

#[derive(Debug)]
struct TailSlot {
    file_no: FileNo,
    pos: u32,
    bytes: Bytes,
}

impl Tail {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { slots: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds the slot that was written behind all others.
    pub(crate) fn push(&mut self, file_no: FileNo, pos: u32, bytes: Bytes) {
        self.bytes += bytes.len();
        self.slots.push_back(TailSlot { file_no, pos, bytes });
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.slots.pop_front() else {
                break;
            };
            self.bytes -= oldest.bytes.len();
        }
    }

    /// The bytes of `run`, if its slot is still here.
    pub(crate) fn find(&self, run: &Run) -> Option<Bytes> {
        let at = (run.file_no, run.pos);
        let behind = self.slots.partition_point(|s| (s.file_no, s.pos) <= at);
        let slot = self.slots.get(behind.checked_sub(1)?)?;
        if slot.file_no != run.file_no {
            return None;
        }
        let start = (run.pos - slot.pos) as usize;
        let range = start..start + run.len as usize;
        // A run of an older slot of the same file begins before every slot that is still here, and was turned away by
        // `checked_sub`; so this one lies inside.
        debug_assert!(range.end <= slot.bytes.len());
        slot.bytes.get(range.clone())?;
        Some(slot.bytes.slice(range))
    }
}
