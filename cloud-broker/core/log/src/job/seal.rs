//! Sealing a WAL file: its footer makes it a unit.

use std::fmt::Display;

use super::{JobDone, Lane, Made, SealJob, UnitRun};
use crate::extent::Extent;
use crate::ids::{PartitionKey, UnitId};
use crate::store::UnitStore;
use crate::unit::{TableBuilder, UnitFacts, UnitKind};

pub(super) fn run<S: UnitStore>(mut job: SealJob, store: &mut S) -> JobDone
where
    S::Error: Display,
{
    let failed = |error: String| JobDone::Failed {
        lane: Lane::Housekeeping,
        doing: "sealing a WAL file",
        error: format!("WAL file {}: {error}", job.file_no),
    };
    job.runs.sort_by_key(|run| {
        let key = run.entry.key;
        (key.shard(), key, run.entry.base_offset)
    });
    let setsum = job.runs.iter().fold(0, |sum: u64, run| sum.wrapping_add(run.setsum));
    if setsum != job.setsum {
        return failed(String::from("its runs are not those that were written"));
    }
    let mut table = TableBuilder::default();
    for run in &job.runs {
        let end = u64::from(run.entry.pos) + u64::from(run.entry.len);
        if end > job.slots_end || table.push(&run.entry, run.append_ms).is_none() {
            return failed(format!("its run at byte {} cannot be there", run.entry.pos));
        }
    }
    let facts = UnitFacts {
        id: UnitId::Wal(job.file_no),
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
        Ok(()) => {
            let extents = extents(meta.id, &job.runs);
            JobDone::Sealed(Made { units: vec![meta], extents })
        }
        Err(error) => failed(error.to_string()),
    }
}

/// The extents of runs that are sorted as in the table.
fn extents(unit: UnitId, runs: &[UnitRun]) -> Vec<(PartitionKey, Extent)> {
    let mut extents: Vec<(PartitionKey, Extent)> = Vec::new();
    for (first, run) in (0..).zip(runs) {
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
            continue;
        }
        let extent = Extent {
            unit,
            base: entry.base_offset,
            last: entry.last_offset,
            max_timestamp: entry.max_timestamp,
            max_append_ms: run.append_ms,
            bytes: u64::from(entry.len),
            first,
            count: 1,
        };
        extents.push((entry.key, extent));
    }
    extents
}
