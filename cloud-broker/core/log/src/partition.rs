//! What the log knows of one partition: its offsets and where its durable batches lie.

use std::collections::VecDeque;

use wire::offset::Offset;
use wire::time::UnixMs;

use crate::ids::FileNo;
use crate::slot::RunEntry;

/// Offsets of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionOffsets {
    /// The first offset that can be read.
    pub log_start: Offset,
    /// The offset behind the last durable record: readers see what lies below.
    pub high_watermark: Offset,
}

/// Durable batches of one partition that lie together in one slot: 48 bytes for every commit that a partition takes part
/// in, so this is what an index costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) base: Offset,
    pub(crate) last: Offset,
    pub(crate) max_timestamp: UnixMs,
    pub(crate) append_ms: UnixMs,
    pub(crate) file_no: FileNo,
    pub(crate) pos: u32,
    pub(crate) len: u32,
}

const _: () = assert!(size_of::<Run>() == 48);

impl Run {
    /// The run of `entry` in a slot that begins at `slot_pos`.
    pub(crate) fn new(entry: &RunEntry, append_ms: UnixMs, file_no: FileNo, slot_pos: u32) -> Self {
        Self {
            base: entry.base_offset,
            last: entry.last_offset,
            max_timestamp: entry.max_timestamp,
            append_ms,
            file_no,
            pos: slot_pos + entry.pos,
            len: entry.len,
        }
    }
}

#[derive(Debug)]
pub(crate) struct PartitionLog {
    /// Behind the last record that was appended, durable or not.
    next: Offset,
    log_start: Offset,
    high_watermark: Offset,
    runs: VecDeque<Run>,
}

impl PartitionLog {
    pub(crate) fn new() -> Self {
        Self {
            next: Offset::ZERO,
            log_start: Offset::ZERO,
            high_watermark: Offset::ZERO,
            runs: VecDeque::new(),
        }
    }

    pub(crate) fn offsets(&self) -> PartitionOffsets {
        PartitionOffsets { log_start: self.log_start, high_watermark: self.high_watermark }
    }

    pub(crate) fn next(&self) -> Offset {
        self.next
    }

    /// Gives out the offsets up to and with `last`.
    pub(crate) fn append_through(&mut self, last: Offset) {
        self.next = last.plus(1);
    }

    /// `run` is durable, and so is everything before it.
    pub(crate) fn run_durable(&mut self, run: Run) {
        self.high_watermark = run.last.plus(1);
        self.runs.push_back(run);
    }

    /// The run that holds `offset` and all behind it, in order.
    pub(crate) fn runs_from(&self, offset: Offset) -> impl Iterator<Item = &Run> {
        let first = self.runs.partition_point(|run| run.last < offset);
        self.runs.range(first..)
    }
}
