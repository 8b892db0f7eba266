//! Writing a checkpoint down, some partitions at a time.
//!
//! It says what was so at one moment, and there may be more than the engine can write down in one step. So partitions are written
//! down in the order of their keys, each as it was before the slots that have become durable meanwhile: those only add runs behind
//! its last one. A partition that is about to change in another way is written down first. What concerns the log as a whole is
//! written down at once.

use std::collections::BTreeSet;

use super::Log;
use super::checkpoint::{Begun, Stored};
use super::durable::LastSlot;
use super::seal::PARTITION_ENTRIES;
use crate::checkpoint::{CheckpointHead, CheckpointWriter, PartitionState, ReplayFrom};
use crate::ids::{PartitionKey, SlotNo, TopicNo};
use crate::job::CheckpointJob;
use crate::mutant::{self, Mutant};
use crate::partition::PartitionLog;
use crate::store::CheckpointId;

/// A checkpoint that is being written down.
#[derive(Debug)]
pub(super) struct Building {
    head: CheckpointHead,
    writer: CheckpointWriter,
    replaces: Vec<CheckpointId>,
    /// Partitions before this one are written down.
    next: PartitionKey,
    /// And these behind it.
    early: BTreeSet<PartitionKey>,
}

impl Log {
    /// If the slot that the begun checkpoint covers is durable: everything else is as the checkpoint says it, from here on. To be
    /// called before the next slot changes anything.
    pub(super) fn build_checkpoint_if_durable(&mut self) {
        let through = self.durable_through;
        let Some(Begun { through, writer }) = self.jobs.checkpoints.begun.take_if(|begun| {
            Some(begun.through) <= through || mutant::is(Mutant::CheckpointNotDurable)
        }) else {
            return;
        };
        let writer = if mutant::is(Mutant::ProducersAhead) {
            let mut writer = CheckpointWriter::new();
            self.producers.export(&mut writer);
            writer
        } else {
            writer
        };
        // The catalog has to be one thing or the other.
        self.go_on_taking_in(usize::MAX);
        let incarnation = self.incarnation;
        let checkpoints = &mut self.jobs.checkpoints;
        checkpoints.last_n += 1;
        let id = CheckpointId { incarnation, n: checkpoints.last_n };
        let newest = checkpoints.found.stored.last().map(|stored| stored.id);
        let all = checkpoints.found.stored.iter().map(|stored| stored.id);
        let all = all.chain(checkpoints.found.others.iter().copied());
        let replaces = all.filter(|id| Some(*id) != newest).collect();
        checkpoints.wal_bytes = 0;
        checkpoints.moved_in_built = std::mem::take(&mut checkpoints.moved);
        self.catalog.named_by(id.n);
        let head = self.checkpoint_head(id, through);
        let next = PartitionKey::all_of(TopicNo(0)).0;
        let early = BTreeSet::new();
        self.jobs.checkpoints.building = Some(Building { head, writer, replaces, next, early });
    }

    /// Writes down some of the partitions that are not written down yet.
    pub(super) fn go_on_building(&mut self) {
        let entries_max = self.step_entries();
        let Some(mut building) = self.jobs.checkpoints.building.take() else {
            return;
        };
        let mut state = PartitionState::empty(building.next);
        let mut entries = 0;
        for (key, partition) in self.partitions.range(building.next..) {
            if entries >= entries_max {
                building.next = *key;
                self.jobs.checkpoints.building = Some(building);
                return;
            }
            if !building.early.remove(key) {
                self.write_down(*key, partition, &mut building, &mut state);
            }
            entries += PARTITION_ENTRIES + state.extents.len() + state.runs.len();
        }
        let Building { head, writer, replaces, .. } = building;
        let replay = head.replay;
        let stored =
            Stored { id: head.id, replay_file: replay.file_no, replay_slot: replay.slot_no };
        let job = CheckpointJob { head, writer, replaces };
        self.jobs.checkpoints.built = Some((stored, job));
    }

    /// To be called before a partition changes in another way than by a run that becomes durable, or where its streams durably
    /// stand.
    pub(super) fn keep_for_checkpoint(&mut self, key: PartitionKey) {
        self.keep_all_for_checkpoint([key]);
    }

    /// The same for several, one behind the other or not.
    pub(super) fn keep_all_for_checkpoint(&mut self, keys: impl IntoIterator<Item = PartitionKey>) {
        let Some(mut building) = self.jobs.checkpoints.building.take() else {
            return;
        };
        let mut state = PartitionState::empty(building.next);
        for key in keys {
            let is_written = key < building.next || building.early.contains(&key);
            if is_written || mutant::is(Mutant::CheckpointTorn) {
                continue;
            }
            if let Some(partition) = self.partitions.get(&key) {
                self.write_down(key, partition, &mut building, &mut state);
                building.early.insert(key);
            }
        }
        self.jobs.checkpoints.building = Some(building);
    }

    fn checkpoint_head(&self, id: CheckpointId, through: SlotNo) -> CheckpointHead {
        let LastSlot { file_no, end, crc, .. } = self.last_slot;
        let slot_no = through.next();
        CheckpointHead {
            id,
            replay: ReplayFrom {
                incarnation: self.incarnation,
                leader_epoch: self.leader_epoch,
                slot_no,
                prev_crc: crc,
                file_no,
                pos: end,
            },
            gc_slot: self.gc_slot().unwrap_or(slot_no),
            next_unit: self.catalog.next_unit,
            next_topic: self.next_topic_no,
            units: self.catalog.units().map(|unit| unit.meta).collect(),
            unsealed: self.catalog.files.iter().map(|file| file.file).collect(),
        }
    }

    /// What the checkpoint needs that is kept beside the one that is made; nothing of another incarnation's chain is counted
    /// in slots.
    fn gc_slot(&self) -> Option<SlotNo> {
        let newest = self.jobs.checkpoints.found.stored.last()?;
        let is_ours = newest.id.incarnation == self.incarnation;
        Some(if is_ours { newest.replay_slot } else { SlotNo(0) })
    }

    /// Writes down where a partition stood when the checkpoint was begun, if there is anything to say of it. `state` is in the
    /// place of the one before: there may be many.
    fn write_down(
        &self,
        key: PartitionKey,
        partition: &PartitionLog,
        building: &mut Building,
        state: &mut PartitionState,
    ) {
        let ReplayFrom { file_no, pos, .. } = building.head.replay;
        let end = if mutant::is(Mutant::CheckpointRunsAhead) { u64::MAX } else { pos };
        let (runs, next) = partition.before(file_no, end);
        state.key = key;
        state.log_start = partition.offsets().log_start;
        state.next = next;
        state.cleaned = partition.cleaned;
        state.next_horizon = partition.next_horizon;
        state.epochs.clear();
        // One that has begun since begins behind all this: replay comes to where it does.
        state.epochs.extend_from_slice(partition.epochs());
        state.extents.clear();
        state.extents.extend_from_slice(partition.extents());
        state.runs.clear();
        state.runs.extend(runs.map(|run| (run.file_no, run.to_unit_run(key))));
        state.streams.clear();
        if !mutant::is(Mutant::StreamsNotInCheckpoint) {
            state.streams.extend(self.streams.durable_of(key));
        }
        if state.next.0 > 0 || !state.streams.is_empty() {
            building.writer.partition(state);
        }
    }
}
