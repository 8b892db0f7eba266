//! Batches that were given their offsets and wait for their slot.
//!
//! A batch's slot is decided when it is appended, so that its answer can be parked on that slot's number. The open slot
//! is closed by the first batch that would take it beyond its target; whatever is staged when the disk is free goes out.

use std::collections::VecDeque;

use wire::ids::Incarnation;
use wire::time::UnixMs;

use crate::ids::SlotNo;
use crate::slot::{
    BatchToPlace, ControlBody, ENTRY_BYTES_PER_BATCH, EncodedSlot, SLOT_ALIGN, SLOT_BYTES_MAX,
    SLOT_HEADER_BYTES, SlotHead, encode_control, encode_data,
};

/// The slots to come, in order.
#[derive(Debug)]
pub(crate) struct Staging {
    slots: VecDeque<StagedSlot>,
    next_slot: SlotNo,
    bytes: usize,
    slot_bytes_target: usize,
    /// Nothing more goes into the last slot.
    is_cut: bool,
}

/// A slot that nobody was given yet.
#[derive(Debug)]
pub(crate) struct StagedSlot {
    pub(crate) slot_no: SlotNo,
    /// The latest append in it.
    pub(crate) append_ms: UnixMs,
    /// Bytes of the encoded slot at most, without padding.
    pub(crate) bytes: usize,
    pub(crate) body: StagedBody,
}

#[derive(Debug)]
pub(crate) enum StagedBody {
    Batches(Vec<BatchToPlace>),
    Control(ControlBody),
    /// Laid out ahead of its turn.
    Encoded(EncodedSlot),
}

impl Staging {
    pub(crate) fn new(slot_bytes_target: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            next_slot: SlotNo(0),
            bytes: 0,
            slot_bytes_target: slot_bytes_target.clamp(SLOT_ALIGN, SLOT_BYTES_MAX),
            is_cut: false,
        }
    }

    /// Bytes staged.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Bytes of all encoded slots with their padding, at most, also if one more is begun.
    pub(crate) fn padded_bytes_max(&self) -> usize {
        self.bytes + (self.slots.len() + 1) * (SLOT_HEADER_BYTES + SLOT_ALIGN)
    }

    /// Each slot's bytes with padding, if a batch that takes up `bytes` were staged now.
    pub(crate) fn padded_slots(&self, bytes: usize) -> impl Iterator<Item = usize> {
        let last = self.slots.back().filter(|slot| self.takes(slot, bytes));
        let joined = last.map(|slot| slot.bytes + bytes);
        let others = self.slots.len() - usize::from(joined.is_some());
        let others = self.slots.iter().take(others).map(|slot| slot.bytes);
        let behind = joined.unwrap_or(SLOT_HEADER_BYTES + bytes);
        others.chain([behind]).map(|bytes| bytes.next_multiple_of(SLOT_ALIGN))
    }

    /// Whether a batch of `bytes` goes into the last slot.
    fn takes(&self, last: &StagedSlot, bytes: usize) -> bool {
        let has_batches = match last.body {
            StagedBody::Batches(_) => true,
            StagedBody::Control(_) | StagedBody::Encoded(_) => false,
        };
        !self.is_cut && has_batches && last.bytes + bytes <= self.slot_bytes_target
    }

    /// The last slot that anything was staged for; `None` before the first.
    pub(crate) fn last_slot(&self) -> Option<SlotNo> {
        self.next_slot.0.checked_sub(1).map(SlotNo)
    }

    pub(crate) fn push_control(&mut self, now: UnixMs, body: ControlBody) {
        self.push_slot(now, SLOT_HEADER_BYTES, StagedBody::Control(body));
    }

    /// Stages a slot without batches.
    pub(crate) fn push_marker(&mut self, now: UnixMs) {
        self.push_slot(now, SLOT_HEADER_BYTES, StagedBody::Batches(Vec::new()));
    }

    /// What is staged from now on goes into a slot behind all there are.
    pub(crate) fn cut(&mut self) {
        self.is_cut = true;
    }

    /// Stages `batch` and returns its slot.
    pub(crate) fn push_batch(&mut self, now: UnixMs, batch: BatchToPlace) -> SlotNo {
        let bytes = batch.bytes.len() + ENTRY_BYTES_PER_BATCH;
        if !self.is_cut
            && let Some(slot) = self.slots.back_mut()
            && let StagedBody::Batches(batches) = &mut slot.body
            && slot.bytes + bytes <= self.slot_bytes_target
        {
            slot.bytes += bytes;
            slot.append_ms = slot.append_ms.max(now);
            batches.push(batch);
            self.bytes += bytes;
            return slot.slot_no;
        }
        let body = StagedBody::Batches(vec![batch]);
        self.push_slot(now, SLOT_HEADER_BYTES + bytes, body)
    }

    pub(crate) fn pop(&mut self) -> Option<StagedSlot> {
        let slot = self.slots.pop_front()?;
        self.bytes -= slot.bytes;
        Some(slot)
    }

    /// The next slot that nothing is added to any more and that is not laid out yet. Slots are laid out in their order,
    /// because each repeats the CRC of the one before.
    pub(crate) fn next_closed(&mut self) -> Option<&mut StagedSlot> {
        let next = if self.slots.len() > 1 { self.slots.front_mut() } else { None };
        next.filter(|slot| !matches!(slot.body, StagedBody::Encoded(_)))
    }

    fn push_slot(&mut self, now: UnixMs, bytes: usize, body: StagedBody) -> SlotNo {
        self.is_cut = false;
        let slot_no = self.next_slot;
        self.next_slot = slot_no.next();
        self.bytes += bytes;
        self.slots.push_back(StagedSlot { slot_no, append_ms: now, bytes, body });
        slot_no
    }
}

impl StagedSlot {
    /// Lays the slot out behind the one with `prev_crc`, unless it is.
    pub(crate) fn encode(self, incarnation: Incarnation, prev_crc: u32) -> EncodedSlot {
        let head = self.head(incarnation, prev_crc);
        match self.body {
            StagedBody::Batches(batches) => encode_data(&head, &batches),
            StagedBody::Control(body) => encode_control(&head, &body),
            StagedBody::Encoded(encoded) => encoded,
        }
    }

    /// Lays the slot out ahead of its turn.
    pub(crate) fn encode_ahead(&mut self, incarnation: Incarnation, prev_crc: u32) {
        let head = self.head(incarnation, prev_crc);
        let encoded = match &mut self.body {
            StagedBody::Batches(batches) => encode_data(&head, &std::mem::take(batches)),
            StagedBody::Control(body) => encode_control(&head, body),
            StagedBody::Encoded(_) => return,
        };
        self.body = StagedBody::Encoded(encoded);
    }

    fn head(&self, incarnation: Incarnation, prev_crc: u32) -> SlotHead {
        SlotHead { incarnation, slot_no: self.slot_no, prev_crc, append_ms: self.append_ms }
    }
}
