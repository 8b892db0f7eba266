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

/// After a slot was laid out in vain, so many go out before another is laid out while batches may still come for it: where they
/// always come, the work would be done twice.
const AHEAD_RESTS: u32 = 16;

/// The slots to come, in order.
#[derive(Debug)]
pub(crate) struct Staging {
    slots: VecDeque<StagedSlot>,
    next_slot: SlotNo,
    bytes: usize,
    slot_bytes_target: usize,
    /// Nothing more goes into the last slot.
    is_cut: bool,
    /// Slots that go out before one is laid out again that batches may still come for.
    ahead_rests: u32,
}

/// A slot that nobody was given yet.
#[derive(Debug)]
pub(crate) struct StagedSlot {
    pub(crate) slot_no: SlotNo,
    /// The latest append in it.
    pub(crate) append_ms: UnixMs,
    /// Bytes of the encoded slot at most, without padding.
    pub(crate) bytes: usize,
    body: StagedBody,
    /// What was laid out ahead of its turn, as long as nothing was added since.
    ahead: Option<EncodedSlot>,
}

#[derive(Debug)]
enum StagedBody {
    /// Without them once the slot is closed and laid out.
    Batches(Vec<BatchToPlace>),
    Control(ControlBody),
}

impl Staging {
    pub(crate) fn new(slot_bytes_target: usize) -> Self {
        Self {
            slots: VecDeque::new(),
            next_slot: SlotNo(0),
            bytes: 0,
            slot_bytes_target: slot_bytes_target.clamp(SLOT_ALIGN, SLOT_BYTES_MAX),
            is_cut: false,
            ahead_rests: 0,
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
            StagedBody::Control(_) => false,
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
            if slot.ahead.take().is_some() {
                self.ahead_rests = AHEAD_RESTS;
            }
            self.bytes += bytes;
            return slot.slot_no;
        }
        let body = StagedBody::Batches(vec![batch]);
        self.push_slot(now, SLOT_HEADER_BYTES + bytes, body)
    }

    pub(crate) fn pop(&mut self) -> Option<StagedSlot> {
        let slot = self.slots.pop_front()?;
        self.bytes -= slot.bytes;
        self.ahead_rests = self.ahead_rests.saturating_sub(1);
        Some(slot)
    }

    /// Lays the next slot out behind the one with `prev_crc`, if nothing more is added to it. Slots are laid out in their order,
    /// because each repeats the CRC of the one before.
    pub(crate) fn lay_out_closed(&mut self, incarnation: Incarnation, prev_crc: u32) {
        let is_closed = self.slots.len() > 1;
        let Some(slot) = self.slots.front_mut().filter(|_| is_closed) else {
            return;
        };
        if slot.ahead.is_none() {
            slot.ahead = Some(slot.encoded(incarnation, prev_crc));
        }
        if let StagedBody::Batches(batches) = &mut slot.body {
            *batches = Vec::new();
        }
    }

    /// Lays the next slot out although batches may still be added to it; not if that was in vain of late.
    pub(crate) fn lay_out_open(&mut self, incarnation: Incarnation, prev_crc: u32) {
        let may = self.ahead_rests == 0;
        if let Some(slot) = self.slots.front_mut().filter(|slot| may && slot.ahead.is_none()) {
            slot.ahead = Some(slot.encoded(incarnation, prev_crc));
        }
    }

    fn push_slot(&mut self, now: UnixMs, bytes: usize, body: StagedBody) -> SlotNo {
        self.is_cut = false;
        let slot_no = self.next_slot;
        self.next_slot = slot_no.next();
        self.bytes += bytes;
        self.slots.push_back(StagedSlot { slot_no, append_ms: now, bytes, body, ahead: None });
        slot_no
    }
}

impl StagedSlot {
    /// The slot, laid out behind the one with `prev_crc`.
    pub(crate) fn encode(mut self, incarnation: Incarnation, prev_crc: u32) -> EncodedSlot {
        let ahead = self.ahead.take();
        ahead.unwrap_or_else(|| self.encoded(incarnation, prev_crc))
    }

    fn encoded(&self, incarnation: Incarnation, prev_crc: u32) -> EncodedSlot {
        let head = self.head(incarnation, prev_crc);
        match &self.body {
            StagedBody::Batches(batches) => encode_data(&head, batches),
            StagedBody::Control(body) => encode_control(&head, body),
        }
    }

    fn head(&self, incarnation: Incarnation, prev_crc: u32) -> SlotHead {
        SlotHead { incarnation, slot_no: self.slot_no, prev_crc, append_ms: self.append_ms }
    }
}
