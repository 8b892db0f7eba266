//! Writing one unit: batches in, body and table out.

use wire::offset::Offset;
use wire::record_batch::RecordBatchHeader;
use wire::time::UnixMs;

use super::setsum::setsum_of_batch;
use super::table::{TableBuilder, UnitFacts};
use super::{UNIT_ENTRY_BATCHES_BYTES, UnitKind, UnitMeta};
use crate::extent::Extent;
use crate::ids::{PartitionKey, SlotNo, UnitId, UnitNo};
use crate::job::{Pace, Proceed};
use crate::slot::{RunEntry, RunFlags};
use crate::store::UnitWrite;

/// What is written at a time: the store syncs each piece, so that a commit never waits for more than one.
pub(crate) const WRITE_BYTES: usize = 4 << 20;

/// Why a unit could not be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum WriteFailed<E> {
    /// What came does not belong behind what came before.
    OutOfOrder,
    /// The store could not write it.
    Store(E),
    /// The process is about to end.
    Stopped,
}

/// What batches have in common that come from one place.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    pub(crate) key: PartitionKey,
    /// Wall time of their commits.
    pub(crate) append_ms: UnixMs,
    /// The first slot that they come from, and the one behind the last.
    pub(crate) slots: (SlotNo, SlotNo),
    /// Whether a gap in front of them means that something else lies there, so that an extent has to end.
    pub(crate) after_gap: AfterGap,
}

/// What a gap between the offsets of two runs means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AfterGap {
    /// Compaction has left nothing there: the extent goes on.
    SameExtent,
    /// Other units hold what lies between: another extent begins.
    NewExtent,
}

/// A unit that is being written. Dropped, it is given up.
#[derive(Debug)]
pub(crate) struct UnitBuilder<W> {
    facts: UnitFacts,
    writer: W,
    buffer: Vec<u8>,
    written: u64,
    table: TableBuilder,
    open: Option<(RunEntry, UnixMs)>,
    extents: Vec<(PartitionKey, Extent)>,
}

/// A unit that was written.
#[derive(Debug)]
pub(crate) struct Built {
    pub(crate) meta: UnitMeta,
    pub(crate) extents: Vec<(PartitionKey, Extent)>,
}

impl<W: UnitWrite> UnitBuilder<W> {
    pub(crate) fn new(unit: UnitNo, kind: UnitKind, writer: W) -> Self {
        let (first_slot, end_slot) = (SlotNo(u64::MAX), SlotNo(0));
        Self {
            facts: UnitFacts { id: UnitId::Unit(unit), kind, first_slot, end_slot, setsum: 0 },
            writer,
            buffer: Vec::new(),
            written: 0,
            table: TableBuilder::default(),
            open: None,
            extents: Vec::new(),
        }
    }

    /// Bytes of its body so far.
    pub(crate) fn body_bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Its entries so far.
    pub(crate) fn entries(&self) -> u32 {
        self.table.len() + u32::from(self.open.is_some())
    }

    /// Adds a batch whose header was parsed from `bytes`.
    pub(crate) fn push_batch(
        &mut self,
        origin: &Origin,
        (header, bytes): (&RecordBatchHeader, &[u8]),
        pace: &mut dyn Pace,
    ) -> Result<(), WriteFailed<W::Error>> {
        let last = header.base_offset.0.checked_add(i64::from(header.last_offset_delta));
        let entry = RunEntry {
            key: origin.key,
            leader_epoch: header.leader_epoch,
            pos: self.pos(),
            len: u32::try_from(bytes.len()).map_err(|_| WriteFailed::OutOfOrder)?,
            batches: 1,
            flags: RunFlags::of(header),
            base_offset: header.base_offset,
            last_offset: Offset(last.ok_or(WriteFailed::OutOfOrder)?),
            max_timestamp: header.max_timestamp,
        };
        let number = setsum_of_batch(origin.key, header.base_offset, header.crc);
        match &mut self.open {
            Some((open, append_ms)) if belongs(&entry, open) => {
                open.len += entry.len;
                open.batches += 1;
                open.last_offset = entry.last_offset;
                open.max_timestamp = open.max_timestamp.max(entry.max_timestamp);
                *append_ms = origin.append_ms.max(*append_ms);
                self.grow_extent(&entry, origin.append_ms);
            }
            Some(_) | None => self.begin_entry(origin, entry)?,
        }
        self.facts.setsum = self.facts.setsum.wrapping_add(number);
        self.note_slots(origin);
        self.write(bytes, pace)
    }

    /// Adds a run as it was found, with what its entry said of it: its batches cannot be told apart, or contradict the entry.
    pub(crate) fn push_damaged(
        &mut self,
        origin: &Origin,
        (entry, bytes): (&RunEntry, &[u8]),
        pace: &mut dyn Pace,
    ) -> Result<(), WriteFailed<W::Error>> {
        let len = u32::try_from(bytes.len()).map_err(|_| WriteFailed::OutOfOrder)?;
        self.begin_entry(origin, RunEntry { pos: self.pos(), len, ..*entry })?;
        self.end_entry()?;
        self.note_slots(origin);
        self.write(bytes, pace)
    }

    /// Writes what is left and the table, and makes the unit durable.
    pub(crate) fn finish(mut self, pace: &mut dyn Pace) -> Result<Built, WriteFailed<W::Error>> {
        self.end_entry()?;
        self.facts.first_slot = self.facts.first_slot.min(self.facts.end_slot);
        let entries_off = self.body_bytes();
        let (footer, meta) = self.table.finish(self.facts, entries_off);
        self.buffer.extend_from_slice(&footer);
        for piece in self.buffer.chunks(WRITE_BYTES) {
            append(&mut self.writer, piece, pace)?;
        }
        self.writer.finish().map_err(WriteFailed::Store)?;
        Ok(Built { meta, extents: self.extents })
    }

    /// Where the next batch goes.
    fn pos(&self) -> u32 {
        u32::try_from(self.body_bytes()).expect("a unit is ended at UNIT_BODY_BYTES_MAX")
    }

    fn begin_entry(
        &mut self,
        origin: &Origin,
        entry: RunEntry,
    ) -> Result<(), WriteFailed<W::Error>> {
        self.end_entry()?;
        let continues = self.extents.last().is_some_and(|(key, extent)| {
            let is_next = extent.last.0.checked_add(1) == Some(entry.base_offset.0);
            *key == entry.key && (is_next || origin.after_gap == AfterGap::SameExtent)
        });
        if continues {
            self.grow_extent(&entry, origin.append_ms);
            if let Some((_, extent)) = self.extents.last_mut() {
                extent.count += 1;
            }
        } else {
            let extent = Extent {
                unit: self.facts.id,
                base: entry.base_offset,
                last: entry.last_offset,
                max_timestamp: entry.max_timestamp,
                max_append_ms: origin.append_ms,
                bytes: u64::from(entry.len),
                first: self.table.len(),
                count: 1,
            };
            self.extents.push((entry.key, extent));
        }
        self.open = Some((entry, origin.append_ms));
        Ok(())
    }

    fn grow_extent(&mut self, entry: &RunEntry, append_ms: UnixMs) {
        if let Some((_, extent)) = self.extents.last_mut() {
            extent.last = entry.last_offset;
            extent.max_timestamp = extent.max_timestamp.max(entry.max_timestamp);
            extent.max_append_ms = extent.max_append_ms.max(append_ms);
            extent.bytes += u64::from(entry.len);
        }
    }

    fn end_entry(&mut self) -> Result<(), WriteFailed<W::Error>> {
        match self.open.take() {
            Some((entry, append_ms)) => {
                self.table.push(&entry, append_ms).ok_or(WriteFailed::OutOfOrder)
            }
            None => Ok(()),
        }
    }

    fn note_slots(&mut self, origin: &Origin) {
        self.facts.first_slot = self.facts.first_slot.min(origin.slots.0);
        self.facts.end_slot = self.facts.end_slot.max(origin.slots.1);
    }

    fn write(
        &mut self,
        mut bytes: &[u8],
        pace: &mut dyn Pace,
    ) -> Result<(), WriteFailed<W::Error>> {
        while self.buffer.len() + bytes.len() >= WRITE_BYTES {
            let (now, later) = bytes.split_at(WRITE_BYTES - self.buffer.len());
            self.buffer.extend_from_slice(now);
            append(&mut self.writer, &self.buffer, pace)?;
            self.written += self.buffer.len() as u64;
            self.buffer.clear();
            bytes = later;
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }
}

fn append<W: UnitWrite>(
    writer: &mut W,
    piece: &[u8],
    pace: &mut dyn Pace,
) -> Result<(), WriteFailed<W::Error>> {
    writer.append(piece).map_err(WriteFailed::Store)?;
    match pace.wrote(piece.len()) {
        Proceed::Go => Ok(()),
        Proceed::Stop => Err(WriteFailed::Stopped),
    }
}

/// Whether a batch, which is `entry` on its own, goes on in the entry `open`.
fn belongs(entry: &RunEntry, open: &RunEntry) -> bool {
    entry.key == open.key
        && entry.leader_epoch == open.leader_epoch
        && entry.flags == open.flags
        && open.last_offset.0.checked_add(1) == Some(entry.base_offset.0)
        && open.batches < u16::MAX
        && open.len as usize + entry.len as usize <= UNIT_ENTRY_BATCHES_BYTES
}
