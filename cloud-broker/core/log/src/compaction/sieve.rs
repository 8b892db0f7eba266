//! Looking into batches: which keys are in them, and which of their records stay.

use wire::offset::Offset;
use wire::record_batch::RecordBatchHeader;
use wire::time::UnixMs;

use super::{
    COMPACTED_BATCH_RECORDS_MAX, KeyHash, KeyMap, KeyedRecord, RecordRewriter, Unreadable,
};
use crate::mutant::{self, Mutant};
use crate::slot::SLOT_BYTES_MAX;

/// A batch: its header, and its bytes, whose CRC is right.
pub(crate) type Batch<'a> = (&'a RecordBatchHeader, &'a [u8]);

/// The keys of a batch's records from `from` on, with their offsets.
///
/// # Errors
/// [`Unreadable`]: it supersedes nothing.
pub(crate) fn survey_batch(
    records: &dyn RecordRewriter,
    batch: Batch<'_>,
    from: Offset,
    seen: &mut Vec<(KeyHash, Offset)>,
) -> Result<(), Unreadable> {
    seen.clear();
    if batch.0.is_control() {
        return Ok(());
    }
    let walked = walk(records, batch, &mut |record| {
        if let Some(key) = record.key
            && record.offset >= from
        {
            seen.push((KeyHash::of(key), record.offset));
        }
    });
    // Half a batch is none: nobody will read what this one supersedes with.
    if walked.is_err() {
        seen.clear();
    }
    walked
}

/// The part of a partition that is sifted, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    /// Records below are gone.
    pub(crate) log_start: Offset,
    /// Where the survey began.
    pub(crate) surveyed: Offset,
    /// Records from here on were not surveyed, and stay.
    pub(crate) cleaned: Offset,
    /// Where the first batch begins that the survey could not read, if there is one. Its keys may not be in the map, so a
    /// tombstone in it, which can perhaps be read by now, has not taken the older values with it.
    pub(crate) unread: Option<Offset>,
    /// The last offset of the last batch.
    pub(crate) last: Offset,
    /// The time.
    pub(crate) now: UnixMs,
    /// How long a tombstone stays that has no delete horizon yet.
    pub(crate) delete_retention_ms: u64,
}

/// What a batch becomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Sifted {
    /// Nothing of it is left.
    Dropped,
    /// It stays as it is.
    Kept,
    /// This takes its place.
    Rewritten(Vec<u8>),
}

/// Sifts the batches of one partition, in the order of their offsets.
pub(crate) struct Sieve<'a> {
    records: &'a dyn RecordRewriter,
    keys: KeyMap,
    bounds: Bounds,
    passed_unread: bool,
    next_horizon: Option<UnixMs>,
    keep: Vec<bool>,
}

/// What is found in one batch.
#[derive(Debug, Default)]
struct Tombstones {
    /// Whether one stays that was surveyed.
    surveyed: bool,
    /// Whether one stays that an earlier pass has surveyed.
    earlier: bool,
}

impl<'a> Sieve<'a> {
    pub(crate) fn new(records: &'a dyn RecordRewriter, keys: KeyMap, bounds: Bounds) -> Self {
        let (passed_unread, next_horizon, keep) = (false, None, Vec::new());
        Self { records, keys, bounds, passed_unread, next_horizon, keep }
    }

    /// The earliest horizon that a tombstone waits for.
    pub(crate) fn next_horizon(&self) -> Option<UnixMs> {
        self.next_horizon
    }

    /// Something stays as it was found, and any key may be in it.
    pub(crate) fn pass_unread(&mut self) {
        self.passed_unread = true;
    }

    /// What becomes of the next batch.
    pub(crate) fn sift(&mut self, batch: Batch<'_>) -> Sifted {
        let (header, bytes) = batch;
        let last = header.base_offset.plus(header.last_offset_delta);
        if last < self.bounds.log_start {
            return Sifted::Dropped;
        }
        if header.base_offset >= self.bounds.cleaned || header.is_control() {
            return Sifted::Kept;
        }
        if self.bounds.unread.is_some_and(|unread| unread <= header.base_offset) {
            self.pass_unread();
        }
        let Ok(tombstones) = self.decide(batch) else {
            self.pass_unread();
            return Sifted::Kept;
        };
        if last == self.bounds.last
            && !self.keep.contains(&true)
            && let Some(kept) = self.keep.last_mut()
        {
            *kept = true;
        }
        if !self.keep.contains(&true) {
            return Sifted::Dropped;
        }
        let is_whole = last < self.bounds.cleaned && !tombstones.earlier && !self.passed_unread;
        let is_first = is_whole && tombstones.surveyed && header.delete_horizon().is_none();
        let due = self.bounds.now.0.saturating_add_unsigned(self.bounds.delete_retention_ms);
        let horizon = is_first.then_some(UnixMs(due));
        let waits = tombstones.surveyed || tombstones.earlier;
        let set = header.delete_horizon().filter(|_| waits);
        let sifted = if horizon.is_none() && !self.keep.contains(&false) {
            Ok(Sifted::Kept)
        } else {
            let rewritten = self.records.rewrite(bytes, &self.keep, horizon);
            rewritten.and_then(|bytes| checked(header, bytes)).map(Sifted::Rewritten)
        };
        match sifted {
            Ok(sifted) => {
                self.next_horizon = [self.next_horizon, horizon, set].into_iter().flatten().min();
                sifted
            }
            Err(Unreadable) => {
                self.pass_unread();
                Sifted::Kept
            }
        }
    }

    /// Says in `keep` which records stay.
    fn decide(&mut self, batch: Batch<'_>) -> Result<Tombstones, Unreadable> {
        let Self { bounds, keys, keep, records, .. } = self;
        let is_over = batch.0.delete_horizon().is_some_and(|horizon| horizon <= bounds.now);
        let mut tombstones = Tombstones::default();
        keep.clear();
        walk(*records, batch, &mut |record| {
            let stays = if record.offset < bounds.log_start {
                false
            } else if record.offset >= bounds.cleaned {
                true
            } else if let Some(key) = record.key {
                let last = keys.last(KeyHash::of(key));
                let is_broken = mutant::is(Mutant::CompactionDropsAll);
                let stays = last.is_none_or(|last| last <= record.offset && !is_broken)
                    && !(record.is_tombstone && is_over);
                if stays && record.is_tombstone {
                    let is_surveyed = record.offset >= bounds.surveyed;
                    tombstones.surveyed |= is_surveyed;
                    tombstones.earlier |= !is_surveyed;
                }
                stays
            } else {
                false
            };
            keep.push(stays);
        })?;
        Ok(tombstones)
    }
}

/// A batch that was written anew, if it can take its place.
fn checked(before: &RecordBatchHeader, rewritten: Vec<u8>) -> Result<Vec<u8>, Unreadable> {
    let after = RecordBatchHeader::parse(&rewritten).map_err(|_| Unreadable)?;
    let place = |header: &RecordBatchHeader| {
        (header.base_offset, header.last_offset_delta, header.leader_epoch)
    };
    let fits = place(&after) == place(before)
        && after.total_len == rewritten.len()
        && rewritten.len() <= SLOT_BYTES_MAX;
    if fits { Ok(rewritten) } else { Err(Unreadable) }
}

/// Shows the records of a batch, if they are what they should be as a whole: in the order of their offsets, within the
/// batch's, as many as it says, and not of a transaction, of which nobody knows here whether it was aborted.
fn walk(
    records: &dyn RecordRewriter,
    (header, bytes): Batch<'_>,
    show: &mut dyn FnMut(KeyedRecord<'_>),
) -> Result<(), Unreadable> {
    if header.is_transactional() || header.record_count > COMPACTED_BATCH_RECORDS_MAX {
        return Err(Unreadable);
    }
    let last = header.base_offset.plus(header.last_offset_delta);
    let (mut next, mut shown, mut in_order) = (header.base_offset, 0, true);
    records.walk(bytes, &mut |record| {
        in_order &= next <= record.offset && record.offset <= last;
        next = Offset(record.offset.0.saturating_add(1));
        shown += 1;
        if in_order && shown <= header.record_count {
            show(record);
        }
    })?;
    if in_order && shown == header.record_count { Ok(()) } else { Err(Unreadable) }
}
