//! Going through the batches of a run, held against the run's entry.

use std::ops::Range;

use wire::offset::Offset;
use wire::record_batch::RecordBatchHeader;
use wire::time::UnixMs;

use crate::slot::{RunEntry, RunFlags};

/// A batch where its entry says that it is. Its CRC is not checked.
#[derive(Debug, Clone)]
pub(crate) struct WalkedBatch {
    pub(crate) header: RecordBatchHeader,
    /// Where in the run.
    pub(crate) range: Range<usize>,
    /// The offset behind it.
    pub(crate) next: Offset,
}

impl WalkedBatch {
    /// Whether the batch, in the `run` that it was found in, is what its producer wrote.
    pub(crate) fn is_intact(&self, run: &[u8]) -> bool {
        run.get(self.range.clone()).is_some_and(|bytes| self.header.check_crc(bytes).is_ok())
    }
}

/// From here on the bytes are not what the entry says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadRun {
    /// Where in the run.
    pub(crate) at: usize,
    /// The first offset that cannot be read.
    pub(crate) base: Offset,
}

/// The batches of one run, in order. After an error there are none.
#[derive(Debug)]
pub(crate) struct Walk<'a> {
    entry: &'a RunEntry,
    run: &'a [u8],
    at: usize,
    next: Offset,
    batches: u32,
    max_timestamp: UnixMs,
    ended: bool,
}

impl<'a> Walk<'a> {
    /// `run` is the bytes that `entry` tells of.
    pub(crate) fn new(entry: &'a RunEntry, run: &'a [u8]) -> Self {
        Self {
            entry,
            run,
            at: 0,
            next: entry.base_offset,
            batches: 0,
            max_timestamp: UnixMs(i64::MIN),
            ended: false,
        }
    }

    fn batch(&mut self) -> Option<WalkedBatch> {
        let header = RecordBatchHeader::parse(self.run.get(self.at..)?).ok()?;
        let entry = self.entry;
        // Base offset and leader epoch lie outside the batch's CRC: only this comparison covers them.
        let agrees = header.base_offset == self.next
            && header.leader_epoch == entry.leader_epoch
            && RunFlags::of(&header) == entry.flags;
        let next = self.next.0.checked_add(i64::from(header.last_offset_delta) + 1)?;
        if !agrees || next - 1 > entry.last_offset.0 {
            return None;
        }
        let range = self.at..self.at + header.total_len;
        self.at = range.end;
        self.next = Offset(next);
        self.batches += 1;
        self.max_timestamp = self.max_timestamp.max(header.max_timestamp);
        Some(WalkedBatch { header, range, next: self.next })
    }

    /// Whether everything that the entry says was seen.
    fn is_complete(&self) -> bool {
        let entry = self.entry;
        self.run.len() == entry.len as usize
            && self.next.0 - 1 == entry.last_offset.0
            && self.batches == u32::from(entry.batches)
            && self.max_timestamp == entry.max_timestamp
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<WalkedBatch, BadRun>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let found = if self.at == self.run.len() {
            // An entry that contradicts all its batches together is as wrong as a batch would be.
            if self.is_complete() {
                self.ended = true;
                return None;
            }
            self.at = 0;
            self.next = self.entry.base_offset;
            None
        } else {
            self.batch()
        };
        self.ended = found.is_none();
        Some(found.ok_or(BadRun { at: self.at, base: self.next }))
    }
}
