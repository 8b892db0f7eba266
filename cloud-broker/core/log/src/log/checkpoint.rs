//! When a checkpoint is made, and of what.
//!
//! A checkpoint says exactly what the log knew at the end of one slot. Only the idempotent producers' state runs ahead of
//! what is durable; so the slot is chosen, and theirs is written down, when it is the last that anything was staged for. The
//! rest is written down as it is when that slot is durable ([`super::building`]).

use std::collections::BTreeSet;

use wire::time::MonoMs;

use super::building::Building;
use super::{Log, Now};
use crate::catalog::Kept;
use crate::checkpoint::CheckpointWriter;
use crate::ids::{FileNo, PartitionKey, SlotNo};
use crate::job::CheckpointJob;
use crate::settings::CHECKPOINT_FACTOR;
use crate::store::CheckpointId;

/// A checkpoint that is stored and counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: CheckpointId,
    pub(crate) replay_file: FileNo,
    pub(crate) replay_slot: SlotNo,
}

/// What recovery found of checkpoints.
#[derive(Debug, Default)]
pub(crate) struct FoundCheckpoints {
    /// The two newest that are good, the older one first; or one, or none.
    pub(crate) stored: Vec<Stored>,
    /// All others that exist.
    pub(crate) others: Vec<CheckpointId>,
    /// Bytes of the newest.
    pub(crate) bytes: u64,
}

/// The checkpoints that there are, and the one that is being made.
#[derive(Debug, Default)]
pub(super) struct Checkpoints {
    pub(super) found: FoundCheckpoints,
    pub(super) last_n: u64,
    asked: bool,
    pub(super) begun: Option<Begun>,
    pub(super) building: Option<Building>,
    pub(super) built: Option<(Stored, CheckpointJob)>,
    storing: Option<(Stored, u64)>,
    /// Bytes written to the WAL behind the slot that the last one covers.
    pub(super) wal_bytes: u64,
    begun_at: Option<MonoMs>,
    stored_at: Option<MonoMs>,
    /// Partitions whose log start has moved, which the next checkpoint to be built will have.
    pub(super) moved: BTreeSet<PartitionKey>,
    /// The same for the one that is built and not stored.
    pub(super) moved_in_built: BTreeSet<PartitionKey>,
}

/// The slot is chosen, the producers' state is written down.
#[derive(Debug)]
pub(super) struct Begun {
    pub(super) through: SlotNo,
    pub(super) writer: CheckpointWriter,
}

impl Checkpoints {
    /// After a start that has replayed so many bytes.
    pub(super) fn new(found: FoundCheckpoints, wal_bytes: u64) -> Self {
        let all = found.stored.iter().map(|stored| stored.id).chain(found.others.iter().copied());
        let last_n = all.map(|id| id.n).max().unwrap_or(0);
        Self { last_n, found, wal_bytes, ..Self::default() }
    }

    pub(super) fn ask(&mut self) {
        self.asked = true;
    }

    /// None is asked for or on its way.
    pub(super) fn is_idle(&self) -> bool {
        !self.asked && !self.is_under_way()
    }

    fn is_under_way(&self) -> bool {
        let is_made = self.begun.is_some() || self.building.is_some();
        is_made || self.built.is_some() || self.storing.is_some()
    }

    pub(super) fn is_building(&self) -> bool {
        self.building.is_some()
    }

    pub(super) fn bytes(&self) -> u64 {
        self.found.bytes
    }

    pub(super) fn wal_bytes(&self) -> u64 {
        self.wal_bytes
    }

    pub(super) fn stored_at(&self) -> Option<MonoMs> {
        self.stored_at
    }

    pub(super) fn wrote(&mut self, bytes: usize) {
        self.wal_bytes += bytes as u64;
    }

    /// The two that are kept, once there are two.
    pub(super) fn kept(&self) -> Option<[Kept; 2]> {
        let [older, newer] = self.found.stored[..] else {
            return None;
        };
        let kept = |stored: Stored| Kept { n: stored.id.n, replay_file: stored.replay_file };
        Some([kept(older), kept(newer)])
    }

    /// A partition's log start has moved.
    pub(super) fn log_start_moved(&mut self, key: PartitionKey) {
        self.moved.insert(key);
    }

    /// The checkpoint that makes the partition's log start durable, if it is not. The one that is built, or about to be, has
    /// number `last_n`; one that is begun will have the next.
    pub(super) fn for_log_start(&self, key: PartitionKey) -> Option<u64> {
        if self.moved.contains(&key) {
            Some(self.last_n + 1)
        } else {
            self.moved_in_built.contains(&key).then_some(self.last_n)
        }
    }

    /// A checkpoint is asked for, unless one is on its way that will do.
    pub(super) fn ask_for_log_start(&mut self, key: PartitionKey) {
        self.asked |= self.moved.contains(&key) && self.begun.is_none();
    }

    pub(super) fn take_built(&mut self) -> Option<CheckpointJob> {
        let (stored, job) = self.built.take()?;
        self.storing = Some((stored, job.writer.len(&job.head)));
        Some(job)
    }

    /// Storing it did not work: another one is made later. What may be there of this one goes with that.
    pub(super) fn failed(&mut self) {
        self.found.others.extend(self.storing.take().map(|(stored, _)| stored.id));
        self.asked = true;
        self.moved.append(&mut self.moved_in_built);
    }

    fn stored(&mut self, now: Now, id: CheckpointId) {
        let Some((stored, bytes)) = self.storing.take().filter(|(stored, _)| stored.id == id)
        else {
            return;
        };
        self.moved_in_built.clear();
        self.found.stored.push(stored);
        let older = self.found.stored.len().saturating_sub(2);
        self.found.stored.drain(..older);
        self.found.others.clear();
        self.found.bytes = bytes;
        self.stored_at = Some(now.mono);
    }
}

impl Log {
    /// Asks for a checkpoint of everything that was appended, so that the next start replays nothing.
    pub fn request_checkpoint(&mut self) {
        self.jobs.checkpoints.ask();
    }

    /// Whether everything is durable, and in a checkpoint if one was asked for: the process may end.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.slot_for_answer().is_none() && self.jobs.checkpoints.is_idle()
    }

    pub(super) fn checkpointed(&mut self, now: Now, id: CheckpointId) {
        self.jobs.checkpoints.stored(now, id);
    }

    pub(super) fn begin_checkpoint_if_due(&mut self, now: Now) {
        // A file that is sealed first is told of in far fewer words.
        let seals_first = self.sealable().is_some() && self.jobs.can_seal();
        if self.jobs.checkpoints.is_under_way() || seals_first || !self.is_checkpoint_due(now) {
            return;
        }
        self.staging.cut();
        let Some(through) = self.staging.last_slot() else {
            return;
        };
        let mut writer = CheckpointWriter::new();
        self.producers.export(&mut writer);
        let checkpoints = &mut self.jobs.checkpoints;
        checkpoints.asked = false;
        checkpoints.begun_at = Some(now.mono);
        checkpoints.begun = Some(Begun { through, writer });
        self.build_checkpoint_if_durable();
        self.go_on_building();
    }

    fn is_checkpoint_due(&self, now: Now) -> bool {
        let checkpoints = &self.jobs.checkpoints;
        let grown = CHECKPOINT_FACTOR.saturating_mul(checkpoints.found.bytes);
        if checkpoints.asked
            || checkpoints.wal_bytes >= grown.max(self.settings.checkpoint_bytes_min)
        {
            return true;
        }
        let rest = self.settings.space_checkpoint_ms;
        let is_rested = checkpoints.begun_at.is_none_or(|at| now.mono - at >= rest);
        is_rested && self.catalog.waits_for_checkpoint(checkpoints.kept(), self.last_slot.file_no)
    }
}
