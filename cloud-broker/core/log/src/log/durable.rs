//! Slots on their way to the disk, and what is so once they are there.

use bytes::Bytes;
use wire::offset::Offset;
use wire::time::UnixMs;

use super::place::Taken;
use super::{Log, NewFile};
use crate::ids::{FileNo, PartitionKey, SlotNo};
use crate::job::UnitRun;
use crate::partition::Run;
use crate::slot::{EncodedSlot, RunEntry};

/// A slot to be written at its place and synced, before anything else is.
#[derive(Debug, Clone)]
pub struct SlotToWrite {
    /// Which slot; [`Log::slot_durable`] wants it back.
    pub slot_no: SlotNo,
    /// The file to make first, if the slot begins one.
    pub new_file: Option<NewFile>,
    /// The file.
    pub file_no: FileNo,
    /// First byte in the file.
    pub pos: u32,
    /// The slot's bytes, a multiple of 4 KiB.
    pub bytes: Bytes,
}

/// What a durable slot has changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Durable {
    /// This slot and all before it are durable: release what was parked on them.
    pub slot_no: SlotNo,
    /// The partitions that readers see more of.
    pub moved: Vec<Moved>,
}

/// A partition whose high watermark has risen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moved {
    /// The partition.
    pub key: PartitionKey,
    /// The offset behind its last durable record.
    pub high_watermark: Offset,
}

/// The slot that became durable last.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastSlot {
    pub(super) file_no: FileNo,
    /// Where it ends in the file.
    pub(super) end: u64,
    pub(super) crc: u32,
    pub(super) runs: usize,
}

/// A slot that was given away to be written.
#[derive(Debug)]
pub(super) struct InFlight {
    slot_no: SlotNo,
    append_ms: UnixMs,
    file_no: FileNo,
    file_size: u64,
    pos: u32,
    pub(super) encoded: EncodedSlot,
}

impl Log {
    /// The next slot to write, with everything that was staged for it. `None` while one is in flight or nothing waits.
    ///
    /// Call it also after appending while one is in flight: a slot that is full is laid out meanwhile, so that the disk does
    /// not wait for that.
    pub fn take_slot(&mut self) -> Option<SlotToWrite> {
        if self.in_flight.is_some() {
            self.staging.lay_out_closed(self.incarnation, self.prev_crc);
            return None;
        }
        let staged = self.staging.pop()?;
        let (slot_no, append_ms) = (staged.slot_no, staged.append_ms);
        let encoded = staged.encode(self.incarnation, self.prev_crc);
        self.prev_crc = encoded.crc;
        let place = self.place.take(slot_no, encoded.bytes.len());
        let Taken { new_file, file_no, file_size, pos } = place;
        self.jobs.checkpoints.wrote(encoded.bytes.len());
        let bytes = encoded.bytes.clone();
        self.in_flight = Some(InFlight { slot_no, append_ms, file_no, file_size, pos, encoded });
        Some(SlotToWrite { slot_no, new_file, file_no, pos, bytes })
    }

    /// Lays out what is staged for the next slot while one is in flight, so that the disk need not wait for that. For when there
    /// is nothing else to do: what is appended for that slot later makes it vain.
    pub fn lay_out_ahead(&mut self) {
        if self.in_flight.is_some() {
            self.staging.lay_out_open(self.incarnation, self.prev_crc);
        }
    }

    /// Whether a slot of this file is on its way to the disk, or is there and not taken in.
    pub(super) fn is_in_flight(&self, file_no: FileNo) -> bool {
        self.slots_under_way().any(|slot| slot.file_no == file_no)
    }

    /// Bytes of slots that are on their way to the disk, or are there and not taken in.
    pub(super) fn bytes_under_way(&self) -> usize {
        self.slots_under_way().map(|slot| slot.encoded.bytes.len()).sum()
    }

    fn slots_under_way(&self) -> impl Iterator<Item = &InFlight> {
        self.synced.iter().chain(&self.in_flight)
    }

    /// The slot in flight is on disk. [`Log::take_slot`] yields the next one, so that the disk does not wait for
    /// [`Log::slot_durable`], which has to follow before that one is synced, too.
    ///
    /// # Panics
    /// If `slot_no` is not the slot in flight, or [`Log::slot_durable`] was not called for the one before.
    pub fn slot_synced(&mut self, slot_no: SlotNo) {
        assert!(self.synced.is_none(), "slots become durable in their order");
        let slot = self.in_flight.take().filter(|slot| slot.slot_no == slot_no);
        self.synced = Some(slot.expect("only the slot in flight can become durable"));
    }

    /// The slot in flight, or the one that [`Log::slot_synced`] was told of, is on disk: readers see its batches, streams stand
    /// behind them.
    ///
    /// # Panics
    /// If `slot_no` is not that slot. Going on would acknowledge what is not durable.
    pub fn slot_durable(&mut self, slot_no: SlotNo) -> Durable {
        let slot = self.synced.take().or_else(|| self.in_flight.take());
        let slot = slot
            .filter(|slot| slot.slot_no == slot_no)
            .expect("only the slot in flight can become durable");
        // A checkpoint that covers the slot before this one has to know nothing of this one.
        self.build_checkpoint_if_durable();
        let uplinks = &slot.encoded.uplinks;
        self.keep_all_for_checkpoint(uplinks.iter().map(|entry| entry.append.stream.key));
        self.maintenance.slot_durable(!slot.encoded.runs.is_empty());
        let slots_end = u64::from(slot.pos) + slot.encoded.bytes.len() as u64;
        let file = (slot.file_no, slot.file_size);
        let file = self.catalog.slot_durable(file, slot_no, slots_end, slot.append_ms);
        file.runs += slot.encoded.runs.len();
        let mut moved: Vec<Moved> = Vec::new();
        for (entry, setsum) in slot.encoded.runs.iter().zip(&slot.encoded.setsums) {
            let Some(partition) = self.partitions.get_mut(&entry.key) else {
                continue;
            };
            let entry = RunEntry { pos: slot.pos + entry.pos, ..*entry };
            let run = UnitRun { entry, append_ms: slot.append_ms, setsum: *setsum };
            if partition.run_durable(Run::new(slot.file_no, &run)) {
                file.keys.push(entry.key);
            }
            let now_at =
                Moved { key: entry.key, high_watermark: partition.offsets().high_watermark };
            match moved.last_mut() {
                Some(last) if last.key == entry.key => *last = now_at,
                Some(_) | None => moved.push(now_at),
            }
        }
        for entry in &slot.encoded.uplinks {
            self.streams.note_durable(&entry.append);
        }
        self.last_slot = LastSlot {
            file_no: slot.file_no,
            end: slots_end,
            crc: slot.encoded.crc,
            runs: slot.encoded.runs.len(),
        };
        self.tail.push(slot.file_no, slot.pos, slot.encoded.bytes);
        self.durable_through = Some(slot_no);
        Durable { slot_no, moved }
    }
}
