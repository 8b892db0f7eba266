//! What has to be true of a checkpoint's content, whoever wrote it. Checked before it is written, where debug assertions are on,
//! and always when it was read: what is built on it later relies on the order of offsets and on units being there.

use wire::offset::Offset;

use super::{CheckpointHead, PartitionState};
use crate::extent::Extent;
use crate::ids::FileNo;
use crate::job::UnitRun;

impl PartitionState {
    /// What contradicts itself here, if anything.
    pub(super) fn inconsistency(&self) -> Option<&'static str> {
        if self.log_start < Offset::ZERO || self.log_start > self.next {
            return Some("a log start beyond the end");
        }
        let ascends =
            |before: &(_, Offset), after: &(_, Offset)| before.0 < after.0 && before.1 <= after.1;
        if !self.epochs.is_sorted_by(ascends) {
            return Some("leader epochs that are not in order");
        }
        if self.extents.iter().any(|extent| extent.count == 0) {
            return Some("an extent without entries");
        }
        if self.runs.iter().any(|(_, run)| run.entry.key != self.key) {
            return Some("a run of another partition");
        }
        if !self.offsets_ascend() {
            return Some("offsets that do not ascend");
        }
        if !self.streams.is_sorted_by(|before, after| before.0 < after.0) {
            return Some("uplink streams that are not in order");
        }
        None
    }

    fn offsets_ascend(&self) -> bool {
        let extents = self.extents.iter().map(|extent| (extent.base, extent.last));
        let runs = self.runs.iter().map(|(_, run)| (run.entry.base_offset, run.entry.last_offset));
        let mut behind = Offset::ZERO;
        for (base, last) in extents.chain(runs) {
            if base < behind || base > last || last >= self.next {
                return false;
            }
            behind = Offset(last.0 + 1);
        }
        true
    }
}

impl CheckpointHead {
    /// What of a partition's batches lies where this checkpoint has nothing, if anything does.
    pub(super) fn misplaced(&self, state: &PartitionState) -> Option<&'static str> {
        if !state.extents.iter().all(|extent| self.holds_extent(extent)) {
            return Some("an extent outside its unit");
        }
        if !state.runs.iter().all(|(file_no, run)| self.holds_run(*file_no, run)) {
            return Some("a run outside its file");
        }
        None
    }

    fn holds_extent(&self, extent: &Extent) -> bool {
        let unit = self.units.binary_search_by_key(&extent.unit, |unit| unit.id);
        let end = extent.first.checked_add(extent.count);
        unit.is_ok_and(|at| end.is_some_and(|end| end <= self.units[at].entry_count))
    }

    fn holds_run(&self, file_no: FileNo, run: &UnitRun) -> bool {
        let file = self.unsealed.binary_search_by_key(&file_no, |file| file.file_no);
        let end = u64::from(run.entry.pos) + u64::from(run.entry.len);
        file.is_ok_and(|at| end <= self.unsealed[at].slots_end)
    }
}
