//! Rewriting units: what lives in some of them is copied into new ones, sorted by partition.
//!
//! Runs are copied as they are. Runs of many partitions are read at once, in the order in which they lie, so that the small
//! runs of an interleaved WAL file do not make a seek each; that takes [`GROUP_BYTES`] of memory, twice at most.

mod gather;

use std::collections::BTreeMap;
use std::fmt::Display;

use wire::offset::Offset;

use super::{Damage, JobDone, Lane, LiveExtent, Made, Pace, Proceed, RewriteJob};
use crate::ids::{PartitionKey, UnitId};
use crate::slot::{RUN_ENTRY_BYTES, RunEntry};
use crate::store::UnitStore;
use crate::unit::{
    AfterGap, EXTENT_SPAN_MS, ExtentEntries, Home, Origin, ReadFailed, UnitError, UnitKind,
    UnitMeta, UnitTable, UnitsOut, Walk, WriteFailed, first_bad, setsum_of_batch,
};
use gather::{GatherFailed, Gathered, ToRead, gather};

/// Runs that are read before they are written, in bytes.
const GROUP_BYTES: u64 = 32 << 20;

/// Runs that are read before they are written.
const GROUP_RUNS: usize = 1 << 16;

/// Bytes that are read ahead at a time.
const AHEAD_BYTES: usize = 128 << 10;

/// Whoever holds the job back is asked after so much was read, in bytes.
const PACED_BYTES: usize = 128 << 10;

/// Entries of an extent that are read at a time: 64 KiB.
const ENTRIES_PER_PAGE: u32 = 1365;

/// Copies what the job says. Units that cannot be read are left out of it, and stay as they are.
pub(super) fn run<S: UnitStore>(mut job: RewriteJob, store: &mut S, pace: &mut dyn Pace) -> JobDone
where
    S::Error: Display,
{
    // The order of a unit's table.
    job.live.sort_by_key(|live| live.key.shard());
    let mut left_out: BTreeMap<UnitId, Vec<Damage>> = BTreeMap::new();
    let mut first_unit = job.first_unit;
    loop {
        let mut copy = Copy::new(&job, store, pace, UnitsOut::new(first_unit, job.unit_bytes));
        match copy.all(&left_out) {
            Ok(made) => {
                let copied = job.inputs.iter().map(|unit| unit.id);
                let inputs = copied.filter(|unit| !left_out.contains_key(unit)).collect();
                let mut damaged = copy.damaged;
                damaged.extend(left_out.into_values().flatten());
                return JobDone::Rewritten { inputs, made, damaged };
            }
            Err(failed) => {
                copy.out.abandon(copy.store);
                // Numbers of units that were given up are not used again.
                first_unit = copy.out.next_unit();
                let error = match failed {
                    CopyFailed::Unreadable(unit, damage) if !left_out.contains_key(&unit) => {
                        left_out.insert(unit, damage);
                        continue;
                    }
                    CopyFailed::Unreadable(unit, _) => format!("{unit} cannot be read"),
                    CopyFailed::Audit => String::from("what was copied is not what was read"),
                    CopyFailed::Plan => String::from("the job contradicts itself"),
                    CopyFailed::Write(WriteFailed::OutOfOrder) => String::from("runs out of order"),
                    CopyFailed::Write(WriteFailed::Stopped) => String::from("stopped"),
                    CopyFailed::Write(WriteFailed::Store(error)) => error.to_string(),
                };
                return JobDone::Failed { lane: Lane::Compaction, doing: "rewriting units", error };
            }
        }
    }
}

/// Why copying ended.
enum CopyFailed<E> {
    /// The sums differ: a run was lost or doubled on its way.
    Audit,
    /// The job names units or runs that do not belong together.
    Plan,
    /// Nothing of this unit can be relied on.
    Unreadable(UnitId, Vec<Damage>),
    /// The units could not be written.
    Write(WriteFailed<E>),
}

impl<E> From<WriteFailed<E>> for CopyFailed<E> {
    fn from(failed: WriteFailed<E>) -> Self {
        Self::Write(failed)
    }
}

/// What was read of one unit.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    runs: u32,
    setsum: u64,
    damaged: bool,
}

/// One run that is copied.
struct CopiedRun {
    entry: RunEntry,
    /// The extent that it belongs to, in the job's list.
    live: usize,
}

/// How far the copy has come.
#[derive(Debug, Clone, Copy)]
struct At {
    key: PartitionKey,
    /// The extent, in the job's list.
    live: usize,
    /// In which span of time its latest append lies.
    span: i64,
}

struct Copy<'a, S: UnitStore> {
    job: &'a RewriteJob,
    store: &'a mut S,
    pace: &'a mut dyn Pace,
    out: UnitsOut<S::Writer>,
    units: BTreeMap<UnitId, UnitMeta>,
    tallies: BTreeMap<UnitId, Tally>,
    damaged: Vec<Damage>,
    /// Bytes that were read since whoever holds the job back was asked.
    unpaced: usize,
    /// What was written last.
    at: Option<At>,
}

impl<'a, S: UnitStore> Copy<'a, S> {
    fn new(
        job: &'a RewriteJob,
        store: &'a mut S,
        pace: &'a mut dyn Pace,
        out: UnitsOut<S::Writer>,
    ) -> Self {
        let units = job.inputs.iter().map(|unit| (unit.id, *unit)).collect();
        let (tallies, damaged) = (BTreeMap::new(), Vec::new());
        Self { job, store, pace, out, units, tallies, damaged, unpaced: 0, at: None }
    }

    fn all(
        &mut self,
        left_out: &BTreeMap<UnitId, Vec<Damage>>,
    ) -> Result<Made, CopyFailed<S::Error>> {
        for unit in self.job.inputs.iter().filter(|unit| !left_out.contains_key(&unit.id)) {
            self.check_table(unit)?;
            self.read_ahead(unit)?;
        }
        let mut group: Vec<CopiedRun> = Vec::new();
        let mut group_bytes = 0;
        for (i, live) in self.job.live.iter().enumerate() {
            if left_out.contains_key(&live.extent.unit) {
                continue;
            }
            let unit = *self.units.get(&live.extent.unit).ok_or(CopyFailed::Plan)?;
            let mut entries = ExtentEntries::new(live.key, live.extent, unit, ENTRIES_PER_PAGE);
            for index in 0..live.extent.count {
                let entry = entries.get(self.store, index);
                let entry = entry.map_err(|failed| self.unreadable(&failed, unit.id))?;
                if entry.last_offset < live.log_start {
                    continue;
                }
                group_bytes += u64::from(entry.len);
                group.push(CopiedRun { entry, live: i });
                if group_bytes >= GROUP_BYTES || group.len() >= GROUP_RUNS {
                    self.copy_group(&group)?;
                    group.clear();
                    group_bytes = 0;
                }
            }
        }
        self.copy_group(&group)?;
        let made = self.out.finish(self.pace)?;
        if let Err(failed) = self.audit(&made) {
            for unit in &made.units {
                // What is left is removed at the next start.
                let _ = self.store.free(unit.id);
            }
            return Err(failed);
        }
        Ok(made)
    }

    /// Holds a unit's table against what the checkpoint says of it, and all its entries against their CRCs.
    fn check_table(&mut self, unit: &UnitMeta) -> Result<(), CopyFailed<S::Error>> {
        let table = UnitTable::read(self.store, unit.id, unit.len);
        let table = table.map_err(|error| self.bad_table(unit, &error))?;
        if table.meta != *unit {
            let (from, to) = (unit.dir_off, unit.len);
            return Err(self.bad_table(unit, &UnitError::Damaged { unit: unit.id, from, to }));
        }
        for row in &table.shards {
            let scanned = table.scan(self.store, row, |_, _| ());
            scanned.map_err(|error| self.bad_table(unit, &error))?;
            self.has_read(u64::from(row.count) * RUN_ENTRY_BYTES as u64)?;
        }
        Ok(())
    }

    fn bad_table(&self, unit: &UnitMeta, error: &UnitError<S::Error>) -> CopyFailed<S::Error> {
        let (from, to) = match error {
            UnitError::Damaged { from, to, .. } => (*from, *to),
            UnitError::Source(_) | UnitError::Version { .. } => (0, unit.len),
        };
        CopyFailed::Unreadable(unit.id, self.damage_of_all(unit.id, from, to))
    }

    /// Has a unit's batches read in the order in which they lie, before they are wanted in another. All at once they would keep
    /// the disk from commits for as long as it takes.
    fn read_ahead(&mut self, unit: &UnitMeta) -> Result<(), CopyFailed<S::Error>> {
        for pos in (0..unit.entries_off).step_by(AHEAD_BYTES) {
            let end = unit.entries_off.min(pos + AHEAD_BYTES as u64);
            self.store.will_need(unit.id, pos..end);
            self.has_read(end - pos)?;
        }
        Ok(())
    }

    fn has_read(&mut self, bytes: u64) -> Result<(), CopyFailed<S::Error>> {
        self.unpaced += usize::try_from(bytes).unwrap_or(usize::MAX);
        let is_much = self.unpaced >= PACED_BYTES;
        if is_much && self.pace.read(std::mem::take(&mut self.unpaced)) == Proceed::Stop {
            return Err(CopyFailed::Write(WriteFailed::Stopped));
        }
        Ok(())
    }

    fn unreadable(&self, failed: &ReadFailed<S::Error>, unit: UnitId) -> CopyFailed<S::Error> {
        let len = self.units.get(&unit).map_or(0, |unit| unit.len);
        let damage = match failed {
            ReadFailed::Damaged(damage) => vec![*damage],
            ReadFailed::Source(_) => self.damage_of_all(unit, 0, len),
        };
        CopyFailed::Unreadable(unit, damage)
    }

    /// That these bytes of a unit concern everything in it that lives.
    fn damage_of_all(&self, unit: UnitId, from: u64, to: u64) -> Vec<Damage> {
        let of_unit = self.job.live.iter().filter(|live| live.extent.unit == unit);
        let damage = of_unit.map(|LiveExtent { key, extent, .. }| {
            let (base, last) = (extent.base, extent.last);
            Damage { unit, from, to, key: *key, base, last }
        });
        damage.collect()
    }

    fn copy_group(&mut self, group: &[CopiedRun]) -> Result<(), CopyFailed<S::Error>> {
        let job = self.job;
        let places = group.iter().map(|run| ToRead {
            unit: job.live[run.live].extent.unit,
            pos: run.entry.pos,
            len: run.entry.len,
        });
        let gathered = gather(self.store, self.pace, places.collect());
        let gathered = gathered.map_err(|failed| match failed {
            GatherFailed::Stopped => CopyFailed::Write(WriteFailed::Stopped),
            GatherFailed::Unreadable(unit) => {
                let len = self.units.get(&unit).map_or(0, |unit| unit.len);
                CopyFailed::Unreadable(unit, self.damage_of_all(unit, 0, len))
            }
        })?;
        for (i, run) in group.iter().enumerate() {
            self.copy_run(run, &gathered, i)?;
        }
        Ok(())
    }

    fn copy_run(
        &mut self,
        run: &CopiedRun,
        gathered: &Gathered,
        index: usize,
    ) -> Result<(), CopyFailed<S::Error>> {
        let live = &self.job.live[run.live];
        let (entry, unit) = (&run.entry, live.extent.unit);
        let mut origin = self.origin(live, run.live)?;
        let bytes = gathered.bytes(index);
        let batches: Result<Vec<_>, _> = Walk::new(entry, bytes).collect();
        let pos = u64::from(entry.pos);
        let tally = self.tallies.entry(unit).or_default();
        tally.runs += 1;
        let batches = match batches {
            Ok(batches) => batches,
            Err(bad) => {
                tally.damaged = true;
                let bad = first_bad(entry, bytes, bad);
                let (from, to) = (pos + bad.at as u64, pos + u64::from(entry.len));
                let (key, last) = (live.key, entry.last_offset);
                self.damaged.push(Damage { unit, from, to, key, base: bad.base, last });
                self.out.push_damaged(self.store, self.pace, &origin, (entry, bytes))?;
                return Ok(());
            }
        };
        for batch in &batches {
            let header = &batch.header;
            if !batch.is_intact(bytes) {
                tally.damaged = true;
                let (from, to) = (pos + batch.range.start as u64, pos + batch.range.end as u64);
                let (key, base) = (live.key, header.base_offset);
                let last = Offset(batch.next.0 - 1);
                self.damaged.push(Damage { unit, from, to, key, base, last });
            }
            let number = setsum_of_batch(live.key, header.base_offset, header.crc);
            tally.setsum = tally.setsum.wrapping_add(number);
            let placed = (header, &bytes[batch.range.clone()]);
            self.out.push_batch(self.store, self.pace, &origin, placed)?;
            origin.after_gap = AfterGap::SameExtent;
        }
        Ok(())
    }

    /// Where a run comes from; begins its partition if it is the first.
    fn origin(&mut self, live: &LiveExtent, index: usize) -> Result<Origin, CopyFailed<S::Error>> {
        let unit = self.units.get(&live.extent.unit).ok_or(CopyFailed::Plan)?;
        let slots = (unit.first_slot, unit.end_slot);
        let append_ms = live.extent.max_append_ms;
        let at = self.at.filter(|at| at.key == live.key);
        let span = append_ms.0.div_euclid(EXTENT_SPAN_MS);
        if at.is_none() {
            let of_key = self.job.live[index..].iter().take_while(|other| other.key == live.key);
            let bytes: u64 = of_key.map(|other| other.extent.bytes).sum();
            let is_big = bytes >= self.job.own_unit_bytes;
            let home = if is_big { Home::Own(UnitKind::OnePartition) } else { Home::Shared };
            self.out.begin_partition(home, self.pace)?;
        } else if at.is_some_and(|at| at.span != span) {
            self.out.end_extent()?;
        }
        let is_same = at.is_some_and(|at| at.live == index);
        self.at = Some(At { key: live.key, live: index, span });
        // Within an extent, a gap is one that compaction left.
        let after_gap = if is_same { AfterGap::SameExtent } else { AfterGap::NewExtent };
        Ok(Origin { key: live.key, append_ms, slots, after_gap })
    }

    /// Whether the batches that came out are those that went in, and those of units that were copied whole are all that was
    /// ever in them.
    fn audit(&self, made: &Made) -> Result<(), CopyFailed<S::Error>> {
        let sum = |sums: &mut dyn Iterator<Item = u64>| sums.fold(0, u64::wrapping_add);
        let read = sum(&mut self.tallies.values().map(|tally| tally.setsum));
        let written = sum(&mut made.units.iter().map(|unit| unit.setsum));
        let as_sealed = self.tallies.iter().all(|(unit, tally)| {
            self.units.get(unit).is_some_and(|unit| {
                let is_whole = tally.runs == unit.entry_count && !tally.damaged;
                !is_whole || tally.setsum == unit.setsum
            })
        });
        if read == written && as_sealed { Ok(()) } else { Err(CopyFailed::Audit) }
    }
}
