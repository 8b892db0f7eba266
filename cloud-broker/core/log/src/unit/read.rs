//! Reading batches of one partition out of a unit.

use std::ops::Range;

use bytes::Bytes;
use wire::offset::Offset;

use super::UnitMeta;
use super::entries::{ENTRIES_PER_PAGE, ExtentEntries};
use super::walk::Walk;
use crate::batch_cut::FirstBatch;
use crate::extent::Extent;
use crate::ids::{PartitionKey, UnitId};
use crate::job::Damage;
use crate::settings::READ_PIECES_MAX;
use crate::slot::{RunEntry, SLOT_BYTES_MAX};
use crate::store::UnitSource;

/// Runs that lie one behind the other are read together up to this, in bytes.
const BYTES_PER_READ: usize = 1 << 20;

/// Why an extent could not be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadFailed<E> {
    /// What lies there is not what was written. Answer with an error for this partition, tell the operator, serve the rest.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The store could not read it. It may work later.
    #[error("{0}")]
    Source(E),
}

/// A read of one partition from one extent, to be carried out with [`ExtentRead::run`] while the unit is leased.
#[derive(Debug, Clone, Copy)]
pub struct ExtentRead {
    /// The partition.
    pub key: PartitionKey,
    /// The unit.
    pub unit: UnitMeta,
    /// What it holds of the partition.
    pub extent: Extent,
    /// The read begins with the batch that holds this offset, or the first behind it.
    pub from: Offset,
    /// Bytes of batches at most.
    pub max_bytes: usize,
    /// What to do if already the first batch exceeds that.
    pub first: FirstBatch,
}

/// What was read of an extent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtentPart {
    /// Whole batches, in order; none of them damaged.
    pub batches: Vec<Bytes>,
    /// The offset to go on from. Only if it is behind the extent's last, nothing of the extent is left.
    pub next: Offset,
}

impl ExtentPart {
    fn len(&self) -> usize {
        self.batches.iter().map(Bytes::len).sum()
    }
}

impl ExtentRead {
    /// Reads as many whole batches as the limit allows, and checks each with its CRC. A read of many scattered runs ends
    /// early, like one that comes to damaged batches: the reader asks again, and is told then.
    ///
    /// # Errors
    /// [`ReadFailed`] if already the first batch cannot be read.
    pub fn run<S: UnitSource>(&self, source: &mut S) -> Result<ExtentPart, ReadFailed<S::Error>> {
        let mut part = ExtentPart { batches: Vec::new(), next: self.from };
        let nothing_fits = self.max_bytes == 0 && self.first == FirstBatch::IfItFits;
        if self.from > self.extent.last || nothing_fits {
            return Ok(part);
        }
        let mut entries = ExtentEntries::new(self.key, self.extent, self.unit, ENTRIES_PER_PAGE);
        let mut index = entries.find(source, self.from)?;
        self.check_gap(source, &mut entries, index)?;
        let mut runs = 0;
        while index < self.extent.count && runs < READ_PIECES_MAX {
            let step = self.span(source, &mut entries, index, &part).and_then(|span| {
                let more = match &span {
                    Some(span) => self.take_span(source, span, &mut part)?,
                    None => false,
                };
                Ok((span.map_or(0, |span| span.len()), more))
            });
            match step {
                Ok((taken, true)) => {
                    runs += taken;
                    index += u32::try_from(taken).unwrap_or(u32::MAX);
                }
                Ok((_, false)) => break,
                Err(_) if !part.batches.is_empty() => break,
                Err(failed) => return Err(failed),
            }
        }
        Ok(part)
    }

    /// The entries from `index` on that lie one behind the other and are within the limit.
    fn span<S: UnitSource>(
        &self,
        source: &mut S,
        entries: &mut ExtentEntries,
        index: u32,
        part: &ExtentPart,
    ) -> Result<Option<Vec<RunEntry>>, ReadFailed<S::Error>> {
        let left = self.max_bytes - self.max_bytes.min(part.len());
        let first = entries.get(source, index)?;
        if first.len as usize > SLOT_BYTES_MAX {
            return Err(ReadFailed::Damaged(entries.damage(index)));
        }
        if !part.batches.is_empty() && first.len as usize > left {
            return Ok(None);
        }
        let mut bytes = first.len as usize;
        let mut span = vec![first];
        let mut end = u64::from(first.pos) + u64::from(first.len);
        for next in index + 1..self.extent.count {
            // Damage behind is told when it is its turn.
            let Ok(entry) = entries.get(source, next) else {
                break;
            };
            bytes += entry.len as usize;
            let is_last = span.len() >= READ_PIECES_MAX || bytes > left.min(BYTES_PER_READ);
            if u64::from(entry.pos) != end || is_last {
                break;
            }
            end += u64::from(entry.len);
            span.push(entry);
        }
        Ok(Some(span))
    }

    /// Adds what is wanted of these runs; whether the read goes on behind them.
    fn take_span<S: UnitSource>(
        &self,
        source: &mut S,
        span: &[RunEntry],
        part: &mut ExtentPart,
    ) -> Result<bool, ReadFailed<S::Error>> {
        let (first, len) = (&span[0], span.iter().map(|entry| entry.len as usize).sum());
        let bytes = source.read_at(self.unit.id, u64::from(first.pos), len);
        let bytes = bytes.map_err(ReadFailed::Source)?;
        for entry in span {
            let at = (entry.pos - first.pos) as usize;
            let run = bytes.slice(at.min(bytes.len())..bytes.len().min(at + entry.len as usize));
            if !self.take_run(entry, &run, part)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Adds what is wanted of one run; whether that goes up to its end.
    fn take_run(
        &self,
        entry: &RunEntry,
        run: &Bytes,
        part: &mut ExtentPart,
    ) -> Result<bool, Damage> {
        let first = if part.batches.is_empty() { self.first } else { FirstBatch::IfItFits };
        let left = self.max_bytes - self.max_bytes.min(part.len());
        let cut = cut(entry, run, (self.unit.id, self.key), (part.next, left, first))?;
        if !cut.range.is_empty() {
            part.batches.push(run.slice(cut.range));
        }
        part.next = cut.next;
        Ok(cut.next > entry.last_offset)
    }

    /// If the offset lies between two entries, compaction removed it, or the first of the two lies about where it ends: then
    /// its batches tell.
    fn check_gap<S: UnitSource>(
        &self,
        source: &mut S,
        entries: &mut ExtentEntries,
        index: u32,
    ) -> Result<(), ReadFailed<S::Error>> {
        let found = entries.get(source, index)?;
        if index == 0 || found.base_offset <= self.from {
            return Ok(());
        }
        let before = entries.get(source, index - 1)?;
        let len = (before.len as usize).min(SLOT_BYTES_MAX);
        let run = source.read_at(self.unit.id, u64::from(before.pos), len);
        let run = run.map_err(ReadFailed::Source)?;
        if Walk::new(&before, &run).all(|batch| batch.is_ok()) {
            Ok(())
        } else {
            Err(ReadFailed::Damaged(entries.damage(index - 1)))
        }
    }
}

/// What a reader gets of a run.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// Where in the run; none of its batches is damaged.
    pub(super) range: Range<usize>,
    /// The offset behind.
    pub(super) next: Offset,
}

/// The whole batches of `run` from the one that holds `from` on, at most `max_bytes`, up to the first damaged one.
pub(super) fn cut(
    entry: &RunEntry,
    run: &[u8],
    (unit, key): (UnitId, PartitionKey),
    (from, max_bytes, first): (Offset, usize, FirstBatch),
) -> Result<Cut, Damage> {
    let pos = u64::from(entry.pos);
    let mut taken: Option<Cut> = None;
    for batch in Walk::new(entry, run) {
        let batch = match (batch, &taken) {
            (Ok(batch), _) => batch,
            (Err(bad), Some(taken)) if bad.base == taken.next => break,
            (Err(bad), _) => {
                let (from, to) = (pos + bad.at as u64, pos + u64::from(entry.len));
                return Err(Damage {
                    unit,
                    from,
                    to,
                    key,
                    base: bad.base,
                    last: entry.last_offset,
                });
            }
        };
        if batch.next <= from {
            continue;
        }
        let start = taken.as_ref().map_or(batch.range.start, |taken| taken.range.start);
        let is_first = taken.is_none() && first == FirstBatch::Always;
        if batch.range.end - start > max_bytes && !is_first {
            // Nothing behind is looked at.
            let next = taken.as_ref().map_or(from, |taken| taken.next);
            return Ok(taken.unwrap_or(Cut { range: 0..0, next }));
        }
        if !batch.is_intact(run) {
            if taken.is_some() {
                break;
            }
            let (from, to) = (pos + batch.range.start as u64, pos + batch.range.end as u64);
            let base = batch.header.base_offset;
            return Err(Damage { unit, from, to, key, base, last: Offset(batch.next.0 - 1) });
        }
        taken = Some(Cut { range: start..batch.range.end, next: batch.next });
    }
    Ok(taken.unwrap_or(Cut { range: 0..0, next: from }))
}
