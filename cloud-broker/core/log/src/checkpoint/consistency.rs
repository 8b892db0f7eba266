//! What has to be true of a checkpoint's content, whoever wrote it. Checked before it is written, where debug assertions are on,
//! and always when it was read: what is built on it later relies on the order of offsets and on units being there.

use wire::offset::Offset;

use super::{CheckpointHead, PartitionState};
use crate::extent::Extent;

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
    /// Whether an extent lies within a unit of this checkpoint.
    pub(super) fn holds(&self, extent: &Extent) -> bool {
        let unit = self.units.binary_search_by_key(&extent.unit, |unit| unit.id);
        let end = extent.first.checked_add(extent.count);
        unit.is_ok_and(|at| end.is_some_and(|end| end <= self.units[at].entry_count))
    }
}
