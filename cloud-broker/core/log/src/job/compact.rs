//! A pass of key compaction over one partition; [`crate::compaction`] has the rules.
//!
//! Memory: the map of keys, 1 MiB of runs or one that is larger, one batch that is written anew, and what a unit's writer
//! holds.

mod runs;

use std::collections::BTreeSet;
use std::fmt::Display;

use wire::offset::Offset;
use wire::record_batch::RecordBatchHeader;

use super::{Ages, CompactJob, Damage, JobDone, Lane, Made, Pace, Proceed};
use crate::compaction::{
    Bounds, COMPACTION_MAP_BYTES, KeyHash, KeyMap, Mapped, RecordRewriter, Sieve, Sifted,
    survey_batch,
};
use crate::extent::Extent;
use crate::store::UnitStore;
use crate::unit::{
    AfterGap, EXTENT_SPAN_MS, Home, Origin, ReadFailed, UnitError, UnitKind, UnitMeta, UnitTable,
    UnitsOut, Walk, WalkedBatch, WriteFailed,
};
use runs::{Run, Runs};

/// A unit ends when its body is so long.
const UNIT_BYTES: u64 = 1 << 30;

/// The pace hears of what was read in steps of so many bytes: it may hold a pass back each time, and runs may be tiny.
const READ_STEP_BYTES: usize = 1 << 20;

/// What bounds a pass.
#[derive(Debug, Clone, Copy)]
struct Limits {
    map_bytes: usize,
    unit_bytes: u64,
    extent_span_ms: i64,
    read_step_bytes: usize,
}

const LIMITS: Limits = Limits {
    map_bytes: COMPACTION_MAP_BYTES,
    unit_bytes: UNIT_BYTES,
    extent_span_ms: EXTENT_SPAN_MS,
    read_step_bytes: READ_STEP_BYTES,
};

/// Compacts a partition.
pub(super) fn run<S: UnitStore>(
    job: &CompactJob,
    store: &mut S,
    pace: &mut dyn Pace,
    records: &dyn RecordRewriter,
) -> JobDone
where
    S::Error: Display,
{
    run_within(LIMITS, job, store, pace, records)
}

fn run_within<S: UnitStore>(
    limits: Limits,
    job: &CompactJob,
    store: &mut S,
    pace: &mut dyn Pace,
    records: &dyn RecordRewriter,
) -> JobDone
where
    S::Error: Display,
{
    let out = UnitsOut::new(job.first_unit, limits.unit_bytes);
    let damaged = Vec::new();
    let mut pass = Pass { limits, job, store, pace, records, out, unpaced: 0, damaged };
    match pass.run() {
        Ok(done) => done,
        Err(given_up) => {
            pass.out.abandon(pass.store);
            let why = match given_up {
                GivenUp::Read(failed) => failed.to_string(),
                GivenUp::Stopped | GivenUp::Write(WriteFailed::Stopped) => String::from("stopped"),
                GivenUp::Write(WriteFailed::OutOfOrder) => String::from("runs out of order"),
                GivenUp::Write(WriteFailed::Store(error)) => error.to_string(),
            };
            let key = job.key;
            let error = format!("topic {}, partition {}: {why}", key.topic_no.0, key.partition.0);
            JobDone::Failed { lane: Lane::Compaction, doing: "compacting", error }
        }
    }
}

/// Why a pass ends before its end.
enum GivenUp<E> {
    /// Where something lies cannot be read, or the store cannot read it. Which keys are there is unknown, so nothing is done.
    Read(ReadFailed<E>),
    Stopped,
    Write(WriteFailed<E>),
}

impl<E> From<ReadFailed<E>> for GivenUp<E> {
    fn from(failed: ReadFailed<E>) -> Self {
        Self::Read(failed)
    }
}

impl<E> From<WriteFailed<E>> for GivenUp<E> {
    fn from(failed: WriteFailed<E>) -> Self {
        Self::Write(failed)
    }
}

struct Pass<'a, S: UnitStore> {
    limits: Limits,
    job: &'a CompactJob,
    store: &'a mut S,
    pace: &'a mut dyn Pace,
    records: &'a dyn RecordRewriter,
    out: UnitsOut<S::Writer>,
    /// Bytes that were read since the pace heard of any.
    unpaced: usize,
    damaged: Vec<Damage>,
}

/// What the dirty part holds.
struct Survey {
    keys: KeyMap,
    /// The offset behind it.
    cleaned: Offset,
    /// Where the first batch begins that cannot be read, if there is one.
    unread: Option<Offset>,
}

/// There is no room for the key of this record, of this batch.
struct Full {
    batch: Offset,
    record: Offset,
}

impl Survey {
    /// Adds the keys of a run's records from `cleaned` on, if there is room for all.
    fn add_run(
        &mut self,
        records: &dyn RecordRewriter,
        run: &Run,
        seen: &mut Vec<(KeyHash, Offset)>,
    ) -> Option<Full> {
        let Ok(batches) = run.batches() else {
            self.unread.get_or_insert(run.entry.base_offset);
            return None;
        };
        for batch in &batches {
            let (header, bytes) = (&batch.header, &run.bytes[batch.range.clone()]);
            let is_read = batch.is_intact(&run.bytes)
                && survey_batch(records, (header, bytes), self.cleaned, seen).is_ok();
            if !is_read {
                self.unread.get_or_insert(header.base_offset);
                continue;
            }
            for (hash, offset) in seen.iter() {
                if self.keys.insert(*hash, *offset) == Mapped::Full {
                    return Some(Full { batch: header.base_offset, record: *offset });
                }
            }
        }
        None
    }
}

impl<S: UnitStore> Pass<'_, S> {
    fn run(&mut self) -> Result<JobDone, GivenUp<S::Error>> {
        let job = self.job;
        self.check_tables()?;
        let Survey { keys, cleaned, unread } = self.survey()?;
        let inputs = job.extents.iter().take_while(|(extent, _)| extent.base < cleaned);
        let inputs: Vec<(Extent, UnitMeta)> = inputs.copied().collect();
        let bounds = Bounds {
            log_start: job.log_start,
            surveyed: job.cleaned,
            cleaned,
            unread,
            last: inputs.last().map_or(cleaned, |(extent, _)| extent.last),
            now: job.now,
            delete_retention_ms: job.policy.delete_retention_ms,
        };
        let mut sieve = Sieve::new(self.records, keys, bounds);
        let made = self.copy(&inputs, &mut sieve)?;
        Ok(JobDone::Compacted {
            key: job.key,
            inputs: inputs.into_iter().map(|(extent, _)| extent).collect(),
            made,
            cleaned,
            next_horizon: sieve.next_horizon(),
            damaged: std::mem::take(&mut self.damaged),
        })
    }

    /// What a damaged entry says of a run must not be written down again, under a checksum that is right.
    fn check_tables(&mut self) -> Result<(), GivenUp<S::Error>> {
        let key = self.job.key;
        let mut checked = BTreeSet::new();
        for (extent, unit) in &self.job.extents {
            if !checked.insert(unit.id) {
                continue;
            }
            let read = UnitTable::read_shard(self.store, unit, key.shard(), |_, _| ());
            let (from, to) = match read {
                Ok(()) => continue,
                Err(UnitError::Damaged { from, to, .. }) => (from, to),
                Err(UnitError::Source(error)) => return Err(ReadFailed::Source(error).into()),
                Err(UnitError::Version { .. }) => (0, unit.len),
            };
            let (unit, base, last) = (unit.id, extent.base, extent.last);
            return Err(ReadFailed::Damaged(Damage { unit, from, to, key, base, last }).into());
        }
        Ok(())
    }

    /// The keys of the dirty part, up to the first batch for which there is no room or that is too young. Of a batch that is
    /// too large for any pass, as many keys as there is room for.
    fn survey(&mut self) -> Result<Survey, GivenUp<S::Error>> {
        let job = self.job;
        let begin = job.cleaned.max(job.log_start);
        let dirty = job.extents.iter().skip_while(|(extent, _)| extent.last < begin);
        let dirty = dirty.take_while(|(extent, _)| {
            let age = job.now.0.saturating_sub(extent.max_append_ms.0);
            u64::try_from(age).unwrap_or(0) >= job.policy.min_lag_ms
        });
        let records = |extent: &Extent| extent.last.0.abs_diff(extent.base.0).saturating_add(1);
        let most_keys = dirty.clone().map(|(extent, _)| records(extent));
        let most_keys = most_keys.fold(0, u64::saturating_add);
        let keys = KeyMap::new(most_keys, self.limits.map_bytes);
        let mut survey = Survey { keys, cleaned: begin, unread: None };
        let mut seen = Vec::new();
        for (extent, unit) in dirty {
            let mut runs = Runs::new(job.key, *extent, *unit, survey.cleaned);
            while let Some(run) = runs.next(self.store)? {
                self.pace_read(run.bytes.len())?;
                if let Some(full) = survey.add_run(self.records, &run, &mut seen) {
                    survey.cleaned = if full.batch > begin { full.batch } else { full.record };
                    return Ok(survey);
                }
            }
            survey.cleaned = extent.last.plus(1);
        }
        Ok(survey)
    }

    /// Writes what stays of the inputs.
    fn copy(
        &mut self,
        inputs: &[(Extent, UnitMeta)],
        sieve: &mut Sieve<'_>,
    ) -> Result<Made, GivenUp<S::Error>> {
        let job = self.job;
        self.out.begin_partition(Home::Own(UnitKind::Compacted), self.pace)?;
        let mut span = None;
        for (extent, unit) in inputs {
            let next = extent.max_append_ms.0.div_euclid(self.limits.extent_span_ms);
            let is_another = span.replace(next).is_some_and(|span: i64| span != next);
            if is_another && job.ages == Ages::Kept {
                self.out.end_extent()?;
            }
            let origin = Origin {
                key: job.key,
                append_ms: extent.max_append_ms,
                slots: (unit.first_slot, unit.end_slot),
                after_gap: AfterGap::SameExtent,
            };
            let mut runs = Runs::new(job.key, *extent, *unit, job.log_start);
            while let Some(run) = runs.next(self.store)? {
                self.pace_read(run.bytes.len())?;
                self.copy_run(&origin, &run, sieve)?;
            }
        }
        Ok(self.out.finish(self.pace)?)
    }

    fn copy_run(
        &mut self,
        origin: &Origin,
        run: &Run,
        sieve: &mut Sieve<'_>,
    ) -> Result<(), GivenUp<S::Error>> {
        let batches = match run.batches() {
            Ok(batches) => batches,
            Err(damage) => {
                sieve.pass_unread();
                self.damaged.push(damage);
                let found = (&run.entry, &run.bytes[..]);
                self.out.push_damaged(self.store, self.pace, origin, found)?;
                return Ok(());
            }
        };
        for batch in &batches {
            let bytes = &run.bytes[batch.range.clone()];
            let sifted = if batch.is_intact(&run.bytes) {
                sieve.sift((&batch.header, bytes))
            } else {
                sieve.pass_unread();
                self.damaged.push(run.damage_of(batch));
                Sifted::Kept
            };
            match sifted {
                Sifted::Dropped => {}
                Sifted::Kept => self.push(origin, &batch.header, bytes)?,
                Sifted::Rewritten(rewritten) => {
                    let header = RecordBatchHeader::parse(&rewritten);
                    let header = header.map_err(|_| WriteFailed::OutOfOrder)?;
                    self.push(origin, &header, &rewritten)?;
                }
            }
        }
        Ok(())
    }

    fn pace_read(&mut self, bytes: usize) -> Result<(), GivenUp<S::Error>> {
        self.unpaced += bytes;
        if self.unpaced < self.limits.read_step_bytes {
            return Ok(());
        }
        match self.pace.read(std::mem::take(&mut self.unpaced)) {
            Proceed::Go => Ok(()),
            Proceed::Stop => Err(GivenUp::Stopped),
        }
    }

    fn push(
        &mut self,
        origin: &Origin,
        header: &RecordBatchHeader,
        bytes: &[u8],
    ) -> Result<(), GivenUp<S::Error>> {
        Ok(self.out.push_batch(self.store, self.pace, origin, (header, bytes))?)
    }
}

#[cfg(test)]
mod tests;
