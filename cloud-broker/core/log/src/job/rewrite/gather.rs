//! Reading many runs in the order in which they lie.

use std::ops::Range;

use bytes::Bytes;

use super::PACED_BYTES;
use crate::ids::UnitId;
use crate::job::{Pace, Proceed};
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

/// Why runs could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GatherFailed {
    /// The process is about to end.
    Stopped,
    /// This unit could not be read.
    Unreadable(UnitId),
}

/// Reads all `runs`; with holes, at most twice their bytes.
pub(super) fn gather<S: UnitSource>(
    source: &mut S,
    pace: &mut dyn Pace,
    runs: Vec<ToRead>,
) -> Result<Gathered, GatherFailed> {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|i| runs[*i]);
    let mut gathered = vec![Bytes::new(); runs.len()];
    let mut rest = &order[..];
    let mut unpaced = 0;
    while let Some(first) = rest.first() {
        let (taken, range) = together(&runs, rest);
        let unit = runs[*first].unit;
        let unreadable = GatherFailed::Unreadable(unit);
        let len = usize::try_from(range.end - range.start).map_err(|_| unreadable)?;
        let bytes = source.read_at(unit, range.start, len).map_err(|_| unreadable)?;
        if bytes.len() != len {
            return Err(unreadable);
        }
        unpaced += len;
        if unpaced >= PACED_BYTES && pace.read(std::mem::take(&mut unpaced)) == Proceed::Stop {
            return Err(GatherFailed::Stopped);
        }
        for i in &rest[..taken] {
            let start = usize::try_from(u64::from(runs[*i].pos) - range.start);
            let start = start.map_err(|_| unreadable)?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{FileNo, UnitNo};

    /// Answers with what tells unit and position, and notes what was asked for.
    #[derive(Default)]
    struct Notes(Vec<(UnitId, u64, usize)>);

    /// Never holds a job back.
    struct AtOnce;

    impl Pace for AtOnce {
        fn wrote(&mut self, _: usize) -> Proceed {
            Proceed::Go
        }
    }

    fn byte_at(unit: UnitId, pos: u64) -> u8 {
        let salt = if unit == UnitId::Unit(UnitNo(1)) { 7 } else { 0 };
        (pos * 31 + (pos >> 8) + salt) as u8
    }

    impl UnitSource for Notes {
        type Error = ();

        fn read_at(&mut self, unit: UnitId, pos: u64, len: usize) -> Result<Bytes, ()> {
            self.0.push((unit, pos, len));
            Ok((pos..pos + len as u64).map(|pos| byte_at(unit, pos)).collect())
        }
    }

    fn read(runs: &[(UnitId, u32, u32)]) -> Vec<(UnitId, u64, usize)> {
        let mut notes = Notes::default();
        let runs: Vec<_> = runs
            .iter()
            .map(|(unit, pos, len)| ToRead { unit: *unit, pos: *pos, len: *len })
            .collect();
        let gathered = gather(&mut notes, &mut AtOnce, runs.clone()).unwrap();
        for (i, run) in runs.iter().enumerate() {
            let pos = u64::from(run.pos);
            let wanted: Vec<u8> =
                (pos..pos + u64::from(run.len)).map(|pos| byte_at(run.unit, pos)).collect();
            assert_eq!(gathered.bytes(i), wanted, "run {i}");
        }
        let wanted: usize = runs.iter().map(|run| run.len as usize).sum();
        let read: usize = notes.0.iter().map(|(_, _, len)| len).sum();
        assert!(read <= 2 * wanted, "{read} bytes for {wanted}");
        notes.0
    }

    #[test]
    fn neighbours_are_read_together_in_the_order_in_which_they_lie() {
        let (a, b) = (UnitId::Wal(FileNo(1)), UnitId::Unit(UnitNo(1)));
        assert_eq!(read(&[]), []);
        assert_eq!(
            read(&[(b, 0, 10), (a, 300, 50), (a, 100, 100), (b, 10, 10), (a, 200, 50)]),
            [(a, 100, 250), (b, 0, 20)]
        );
        // A hole that is larger than what lies before it is not worth it.
        assert_eq!(read(&[(a, 0, 10), (a, 21, 10)]), [(a, 0, 10), (a, 21, 10)]);
        // Nor is a hole that takes longer than a seek.
        let far = 200_000 + (64 << 10);
        assert_eq!(read(&[(a, 0, 200_000), (a, far, 9)]).len(), 1);
        assert_eq!(read(&[(a, 0, 200_000), (a, far + 1, 9)]).len(), 2);
        // Nobody asks for more than 4 MiB at a time, unless one run is larger.
        let many: Vec<_> = (0..9).map(|i| (a, i << 20, 1 << 20)).collect();
        assert_eq!(read(&many).iter().map(|(_, _, len)| len >> 20).collect::<Vec<_>>(), [4, 4, 1]);
        assert_eq!(read(&[(a, 5, 5 << 20)]), [(a, 5, 5 << 20)]);
    }
}
