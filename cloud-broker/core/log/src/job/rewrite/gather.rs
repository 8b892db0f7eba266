//! Reading many runs in the order in which they lie.

use std::ops::Range;

use bytes::Bytes;

use crate::ids::UnitId;
use crate::store::UnitSource;

/// Read at a time at most, unless a run is longer, in bytes.
const READ_BYTES_MAX: u64 = 4 << 20;

/// A hole between two runs that is rather read than skipped, in bytes.
const HOLE_BYTES_MAX: u64 = 64 << 10;

/// Where a run lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ToRead {
    pub(super) unit: UnitId,
    pub(super) pos: u32,
    pub(super) len: u32,
}

/// Runs that were read.
#[derive(Debug)]
pub(super) struct Gathered(Vec<Bytes>);

impl Gathered {
    /// The run number `index` of those that were asked for.
    pub(super) fn bytes(&self, index: usize) -> &[u8] {
        &self.0[index]
    }
}

/// Reads all `runs`; with holes, at most twice their bytes. Names the unit that could not be read.
pub(super) fn gather<S: UnitSource>(source: &mut S, runs: Vec<ToRead>) -> Result<Gathered, UnitId> {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|i| runs[*i]);
    let mut gathered = vec![Bytes::new(); runs.len()];
    let mut rest = &order[..];
    while let Some(first) = rest.first() {
        let (taken, range) = together(&runs, rest);
        let unit = runs[*first].unit;
        let len = usize::try_from(range.end - range.start).map_err(|_| unit)?;
        let bytes = source.read_at(unit, range.start, len).map_err(|_| unit)?;
        if bytes.len() != len {
            return Err(unit);
        }
        for i in &rest[..taken] {
            let start = usize::try_from(u64::from(runs[*i].pos) - range.start).map_err(|_| unit)?;
            gathered[*i] = bytes.slice(start..start + runs[*i].len as usize);
        }
        rest = &rest[taken..];
    }
    Ok(Gathered(gathered))
}

/// How many of the runs at the start of `order` are read at once, and where they lie.
fn together(runs: &[ToRead], order: &[usize]) -> (usize, Range<u64>) {
    let range_of = |run: &ToRead| u64::from(run.pos)..u64::from(run.pos) + u64::from(run.len);
    let first = &runs[order[0]];
    let mut range = range_of(first);
    let mut wanted = u64::from(first.len);
    let mut taken = 1;
    for run in order[1..].iter().map(|i| &runs[*i]) {
        let next = range_of(run);
        let hole = next.start.saturating_sub(range.end);
        let end = range.end.max(next.end);
        let is_near = run.unit == first.unit && hole <= HOLE_BYTES_MAX.min(wanted);
        // Holes are paid for by what is wanted, so that memory stays bounded.
        let is_worth = end - range.start <= 2 * (wanted + u64::from(run.len));
        if !is_near || !is_worth || end - range.start > READ_BYTES_MAX {
            break;
        }
        range.end = end;
        wanted += u64::from(run.len);
        taken += 1;
    }
    (taken, range)
}
