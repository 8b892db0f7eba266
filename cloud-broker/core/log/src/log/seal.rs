//! Sealing a WAL file: its runs are collected, and what became of them is taken in, some partitions at a time.
//!
//! A file may have as many runs as fit it, and the engine has answers to give meanwhile. Between two steps some partitions have
//! extents in the new unit and the others still have runs in the file, so both exist until the last one is through.

use super::Log;
use super::jobs::Housekeeping;
use crate::extent::Extent;
use crate::ids::{FileNo, PartitionKey, UnitId};
use crate::job::{Made, SealJob, UnitRun};

/// What a partition counts as, in runs or extents: it has to be found.
pub(super) const PARTITION_ENTRIES: usize = 4;

/// The runs of a file that gets no more slots.
#[derive(Debug)]
pub(super) struct Collecting {
    file_no: FileNo,
    /// The partitions that have some, or had.
    keys: Vec<PartitionKey>,
    /// The next of them.
    at: usize,
    /// May hold some that were deleted meanwhile.
    runs: Vec<UnitRun>,
}

impl Collecting {
    pub(super) fn is_whole(&self) -> bool {
        self.at == self.keys.len()
    }
}

/// A file that has become a unit.
#[derive(Debug)]
pub(super) struct TakingIn {
    file_no: FileNo,
    unit: UnitId,
    /// In the order of the unit's table, so each partition's are together.
    extents: Vec<(PartitionKey, Extent)>,
    /// The next of them.
    at: usize,
}

impl Log {
    /// The oldest file without a footer, if it gets no more slots.
    pub(super) fn sealable(&self) -> Option<FileNo> {
        let file_no = self.catalog.files.front()?.file.file_no;
        let is_written_to = self.place.is_open(file_no) || self.is_in_flight(file_no);
        (!is_written_to).then_some(file_no)
    }

    /// The oldest file that gets no more slots, once its runs are collected. Those in which nobody can read anything need no
    /// footer.
    pub(super) fn plan_seal(&mut self) -> Option<SealJob> {
        loop {
            let file_no = self.sealable()?;
            let collecting = &mut self.jobs.collecting;
            if collecting.as_ref().is_none_or(|collecting| collecting.file_no != file_no) {
                let file = self.catalog.files.front()?;
                let (mut keys, runs) = (file.keys.clone(), Vec::with_capacity(file.runs));
                keys.sort_unstable();
                keys.dedup();
                *collecting = Some(Collecting { file_no, keys, at: 0, runs });
                self.go_on_collecting();
            }
            let Collecting { runs, .. } = self.jobs.collecting.take_if(|c| c.is_whole())?;
            if runs.is_empty() {
                self.catalog.drop_file(file_no);
                self.jobs.may_free = true;
                continue;
            }
            let file = &self.catalog.files.front()?.file;
            return Some(SealJob {
                file_no,
                first_slot: file.first_slot,
                end_slot: file.end_slot,
                slots_end: file.slots_end,
                size: file.size,
                setsum: runs.iter().fold(0, |sum, run| sum.wrapping_add(run.setsum)),
                runs,
            });
        }
    }

    pub(super) fn go_on_collecting(&mut self) {
        let entries_max = self.step_entries();
        let Some(collecting) = &mut self.jobs.collecting else {
            return;
        };
        let Collecting { file_no, keys, at, runs } = collecting;
        let mut entries = 0;
        while let Some(key) = keys.get(*at).filter(|_| entries < entries_max) {
            let before = runs.len();
            if let Some(partition) = self.partitions.get(key) {
                runs.extend(partition.runs_in(*file_no).map(|run| run.to_unit_run(*key)));
            }
            entries += PARTITION_ENTRIES + runs.len() - before;
            *at += 1;
        }
    }

    /// A file has its footer.
    pub(super) fn sealed(&mut self, made: Made) {
        let (Some(Housekeeping::Seal(file_no)), [meta]) =
            (self.jobs.housekeeping.running, &made.units[..])
        else {
            self.jobs.housekeeping.succeeded();
            return;
        };
        self.jobs.seal_failed = false;
        self.catalog.begin_seal(file_no, *meta);
        let (unit, extents) = (meta.id, made.extents);
        self.jobs.taking_in = Some(TakingIn { file_no, unit, extents, at: 0 });
        self.go_on_taking_in(self.step_entries());
    }

    /// Takes in a sealed file, about so many entries of it.
    pub(super) fn go_on_taking_in(&mut self, entries_max: usize) {
        let Some(mut taking) = self.jobs.taking_in.take() else {
            return;
        };
        let mut entries = 0;
        while let Some((key, _)) = taking.extents.get(taking.at).filter(|_| entries < entries_max) {
            let key = *key;
            let rest = &taking.extents[taking.at..];
            let of_key = rest.iter().take_while(|(other, _)| *other == key).count();
            let made = &rest[..of_key];
            self.keep_for_checkpoint(key);
            if let Some(partition) = self.partitions.get_mut(&key) {
                let catalog = &mut self.catalog;
                partition.seal(taking.file_no, made, |extent| catalog.extent_taken(extent));
            }
            let runs: usize = made.iter().map(|(_, extent)| extent.count as usize).sum();
            entries = entries.saturating_add(PARTITION_ENTRIES + runs);
            taking.at += of_key;
        }
        if taking.at < taking.extents.len() {
            self.jobs.taking_in = Some(taking);
            return;
        }
        self.catalog.end_seal(taking.file_no, taking.unit);
        self.jobs.housekeeping.succeeded();
        self.jobs.look_again();
    }
}
