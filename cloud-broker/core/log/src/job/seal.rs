//! Sealing a WAL file: its footer makes it a unit.

use std::fmt::Display;

use super::{JobDone, Lane, Made, Pace, SealJob, UnitRun};
use crate::extent::Extent;
use crate::ids::{PartitionKey, UnitId};
use crate::store::UnitStore;
use crate::unit::{TableBuilder, UnitFacts, UnitKind};

/// So many runs are dealt with before others may have the processor.
const RUNS_PER_BREATH: u32 = 1024;

pub(super) fn run<S: UnitStore>(job: &SealJob, store: &mut S, pace: &mut dyn Pace) -> JobDone
where
    S::Error: Display,
{
    let failed = |error: String| JobDone::Failed {
        lane: Lane::Housekeeping,
        doing: "sealing a WAL file",
        error: format!("WAL file {}: {error}", job.file_no),
    };
    let id = UnitId::Wal(job.file_no);
    let mut table = TableBuilder::with_capacity(job.runs.len());
    let mut extents: Vec<(PartitionKey, Extent)> = Vec::new();
    let mut setsum = 0_u64;
    let in_order = in_order(&job.runs, pace);
    for (n, run) in (0..).zip(in_order.iter().copied().flatten()) {
        let end = u64::from(run.entry.pos) + u64::from(run.entry.len);
        if end > job.slots_end || table.push(&run.entry, run.append_ms).is_none() {
            return failed(format!("its run at byte {} cannot be there", run.entry.pos));
        }
        setsum = setsum.wrapping_add(run.setsum);
        add(&mut extents, id, n, run);
        if n % RUNS_PER_BREATH == RUNS_PER_BREATH - 1 {
            pace.breathe();
        }
    }
    if setsum != job.setsum {
        return failed(String::from("its runs are not those that were written"));
    }
    let facts = UnitFacts {
        id,
        kind: UnitKind::SealedWal,
        first_slot: job.first_slot,
        end_slot: job.end_slot,
        setsum: job.setsum,
    };
    // A footer at the end of the file leaves it as long as it was, to be recycled as it is.
    let footer_bytes = table.footer_bytes();
    let at_end = job.size.checked_sub(footer_bytes).filter(|pos| *pos >= job.slots_end);
    let pos = at_end.unwrap_or(job.slots_end);
    let (footer, meta) = table.finish(facts, pos);
    match store.seal(job.file_no, pos, &footer) {
        Ok(()) => JobDone::Sealed(Made { units: vec![meta], extents }),
        Err(error) => failed(error.to_string()),
    }
}

/// The runs in the order of the table. They come with each partition's together, and those are sorted: far fewer than the runs.
fn in_order<'a>(runs: &'a [UnitRun], pace: &mut dyn Pace) -> Vec<&'a [UnitRun]> {
    let mut groups = Vec::new();
    let mut unbreathed = 0;
    for group in runs.chunk_by(|run, next| run.entry.key == next.entry.key) {
        groups.push(group);
        unbreathed += group.len();
        if unbreathed >= RUNS_PER_BREATH as usize {
            pace.breathe();
            unbreathed = 0;
        }
    }
    groups.sort_by_key(|group| {
        group.first().map(|run| (run.entry.key.shard(), run.entry.key, run.entry.base_offset))
    });
    groups
}

/// Adds the run at `index` in the table to the extent that it goes on, or begins another.
fn add(extents: &mut Vec<(PartitionKey, Extent)>, unit: UnitId, index: u32, run: &UnitRun) {
    let entry = &run.entry;
    if let Some((key, extent)) = extents.last_mut()
        && *key == entry.key
        && extent.last.0.checked_add(1) == Some(entry.base_offset.0)
    {
        extent.last = entry.last_offset;
        extent.max_timestamp = extent.max_timestamp.max(entry.max_timestamp);
        extent.max_append_ms = extent.max_append_ms.max(run.append_ms);
        extent.bytes += u64::from(entry.len);
        extent.count += 1;
        return;
    }
    let extent = Extent {
        unit,
        base: entry.base_offset,
        last: entry.last_offset,
        max_timestamp: entry.max_timestamp,
        max_append_ms: run.append_ms,
        bytes: u64::from(entry.len),
        first: index,
        count: 1,
    };
    extents.push((entry.key, extent));
}
