//! What replay starts from: the newest checkpoint that can be relied on.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use wire::time::UnixMs;

use super::{CheckpointBad, DamagedCheckpoint, RecoveryError, WalFileLen, WalSource};
use crate::catalog::Catalog;
use crate::checkpoint::{Checkpoint, CheckpointHead};
use crate::ids::{FileNo, PartitionKey, TopicNo, UnitId, UnitNo};
use crate::log::{FoundCheckpoints, Stored};
use crate::mutant::{self, Mutant};
use crate::partition::PartitionLog;
use crate::producer::Producers;
use crate::store::{CheckpointId, CheckpointStore, UnitStore};
use crate::unit::UnitTable;
use crate::uplink_stream::{UplinkStream, UplinkStreams};

/// The log as a checkpoint tells of it, or an empty one.
#[derive(Debug, Default)]
pub(super) struct Base {
    pub(super) head: Option<CheckpointHead>,
    pub(super) partitions: BTreeMap<PartitionKey, PartitionLog>,
    pub(super) streams: UplinkStreams,
    pub(super) producers: Producers,
    pub(super) catalog: Catalog,
    pub(super) checkpoints: FoundCheckpoints,
    pub(super) next_topic_no: TopicNo,
    /// Wall time of the latest commit with records that it knows.
    pub(super) newest_append: Option<UnixMs>,
    pub(super) damaged: Vec<DamagedCheckpoint>,
    /// The WAL files from which on replay reads.
    pub(super) files: Vec<WalFileLen>,
    pub(super) orphans: Vec<UnitId>,
    /// The file in which replay begins, if it has a table behind its last slot already.
    pub(super) sealed: Option<FileNo>,
}

/// What lies in the store.
struct Holdings {
    /// With their lengths.
    files: BTreeMap<FileNo, u64>,
    units: BTreeMap<UnitNo, u64>,
}

impl Holdings {
    fn len_of(&self, id: UnitId) -> Option<u64> {
        match id {
            UnitId::Wal(file_no) => self.files.get(&file_no).copied(),
            UnitId::Unit(unit_no) => self.units.get(&unit_no).copied(),
        }
    }

    /// What of a checkpoint is not there.
    fn misses(&self, head: &CheckpointHead) -> Option<CheckpointBad> {
        let unit = head.units.iter().find(|unit| self.len_of(unit.id) != Some(unit.len));
        if let Some(unit) = unit {
            return Some(CheckpointBad::UnitMissing(unit.id));
        }
        let file = head
            .unsealed
            .iter()
            .find(|file| self.files.get(&file.file_no).is_none_or(|len| *len < file.slots_end));
        let replay = head.replay.file_no;
        let file = file.map(|file| file.file_no);
        let file = file.or_else(|| (!self.files.contains_key(&replay)).then_some(replay));
        file.map(|file_no| CheckpointBad::UnitMissing(UnitId::Wal(file_no)))
    }
}

impl Base {
    pub(super) fn load<S, E>(store: &mut S) -> Result<Self, RecoveryError<E>>
    where
        S: WalSource<Error = E> + UnitStore<Error = E> + CheckpointStore<Error = E>,
    {
        let files = store.files().map_err(RecoveryError::Source)?;
        let units = store.units().map_err(RecoveryError::Source)?;
        let holdings = Holdings {
            files: files.iter().map(|file| (file.file_no, file.len)).collect(),
            units: units.into_iter().collect(),
        };
        let mut ids = store.checkpoints().map_err(RecoveryError::Source)?;
        ids.sort_by_key(|id| std::cmp::Reverse(id.n));
        let mut base = Self::default();
        let mut older: Option<CheckpointHead> = None;
        let mut unreadable = None;
        for id in ids {
            let is_wanted = base.head.is_none() || older.is_none();
            if !is_wanted {
                base.checkpoints.others.push(id);
                continue;
            }
            let found = match store.get_checkpoint(id) {
                Ok(bytes) => read(id, &bytes, &holdings).map(|found| (found, bytes.len() as u64)),
                Err(error) => {
                    unreadable = unreadable.or(Some(error));
                    Err(CheckpointBad::Unreadable)
                }
            };
            match found {
                // An older one may be good, but it is not the log that the other version has left.
                Err(bad @ CheckpointBad::Damaged(error))
                    if base.head.is_none() && error.kind.is_of_another_version() =>
                {
                    return Err(RecoveryError::CheckpointVersion(DamagedCheckpoint { id, bad }));
                }
                Err(bad) => {
                    base.damaged.push(DamagedCheckpoint { id, bad });
                    base.checkpoints.others.push(id);
                }
                Ok((checkpoint, bytes)) if base.head.is_none() => {
                    base.checkpoints.bytes = bytes;
                    base.take(checkpoint);
                }
                Ok((checkpoint, _)) => older = Some(checkpoint.head),
            }
        }
        // It may pass, and then nothing is damaged.
        if base.head.is_none()
            && let Some(error) = unreadable
        {
            return Err(RecoveryError::Source(error));
        }
        // Without its checkpoint a log is shorter than it was: its oldest files are gone.
        if base.head.is_none()
            && let Some(damaged) = base.damaged.first()
        {
            return Err(RecoveryError::NoCheckpoint(*damaged));
        }
        if let Some(head) = &base.head {
            let file_no = head.replay.file_no;
            let len = holdings.len_of(UnitId::Wal(file_no)).unwrap_or(0);
            let table = UnitTable::read(store, UnitId::Wal(file_no), len);
            base.sealed = table.is_ok().then_some(file_no);
        }
        base.sort_out(&holdings, older.as_ref());
        Ok(base)
    }

    fn take(&mut self, checkpoint: Checkpoint) {
        let Checkpoint { head, partitions } = checkpoint;
        for unit in &head.units {
            self.newest_append = self.newest_append.max(Some(unit.max_append_ms));
            self.catalog.restore(*unit, head.id.n);
        }
        for file in &head.unsealed {
            self.catalog.restore_file(*file, head.id.n);
        }
        let mut producers = Vec::new();
        for (key, mut state) in partitions {
            for extent in &state.extents {
                self.catalog.extent_taken(extent);
                self.newest_append = self.newest_append.max(Some(extent.max_append_ms));
            }
            for (file_no, run) in &state.runs {
                self.catalog.run_restored(*file_no, key, run.append_ms);
                self.newest_append = self.newest_append.max(Some(run.append_ms));
            }
            for (pid, stream) in state.streams.drain(..) {
                if !mutant::is(Mutant::StreamsNotRecovered) {
                    self.streams.restore(UplinkStream { key, pid }, stream);
                }
            }
            producers.extend(state.producers.drain(..).map(|producer| (key, producer)));
            self.partitions.insert(key, PartitionLog::restore(&state));
        }
        self.producers.restore(producers);
        for unit in &head.units {
            self.catalog.settle(unit.id);
        }
        self.next_topic_no = head.next_topic;
        self.catalog.next_unit = head.next_unit;
        self.head = Some(head);
    }

    /// Finds what replay reads, what only the older checkpoint needs, and what nothing does.
    fn sort_out(&mut self, holdings: &Holdings, older: Option<&CheckpointHead>) {
        let heads = [older, self.head.as_ref()].into_iter().flatten();
        self.checkpoints.stored = heads
            .map(|head| Stored {
                id: head.id,
                replay_file: head.replay.file_no,
                replay_slot: head.replay.slot_no,
            })
            .collect();
        let named = |head: &CheckpointHead| -> BTreeSet<UnitId> {
            let files = head.unsealed.iter().map(|file| UnitId::Wal(file.file_no));
            head.units.iter().map(|unit| unit.id).chain(files).collect()
        };
        let by_newest = self.head.as_ref().map(named).unwrap_or_default();
        let by_older = older.map(named).unwrap_or_default();
        let first = self.head.as_ref().map_or(FileNo::FIRST, |head| head.replay.file_no);
        let first_of_older = older.map_or(first, |head| head.replay.file_no).min(first);
        let n_of_older = older.map_or(0, |head| head.id.n);
        let files = holdings.files.iter().map(|(file_no, len)| (UnitId::Wal(*file_no), *len));
        let units = holdings.units.iter().map(|(unit_no, len)| (UnitId::Unit(*unit_no), *len));
        for (id, len) in files.chain(units) {
            let is_replayed_by_older = match id {
                UnitId::Wal(file_no) if file_no >= first => {
                    self.files.push(WalFileLen { file_no, len });
                    continue;
                }
                UnitId::Wal(file_no) => file_no >= first_of_older,
                UnitId::Unit(unit_no) => {
                    let behind = UnitNo(unit_no.0.saturating_add(1));
                    self.catalog.next_unit = self.catalog.next_unit.max(behind);
                    false
                }
            };
            if by_newest.contains(&id) {
                continue;
            }
            let by_older = &by_older;
            let is_forgotten = mutant::is(Mutant::OlderCheckpointForgottenAtStart);
            if !is_forgotten && (by_older.contains(&id) || is_replayed_by_older) {
                self.catalog.restore_dead(id, len, n_of_older);
            } else if !mutant::is(Mutant::OrphansKept) {
                self.orphans.push(id);
            }
        }
    }
}

fn read(id: CheckpointId, bytes: &Bytes, holdings: &Holdings) -> Result<Checkpoint, CheckpointBad> {
    let checkpoint = Checkpoint::decode(bytes).map_err(CheckpointBad::Damaged)?;
    if checkpoint.head.id != id {
        return Err(CheckpointBad::Another(checkpoint.head.id));
    }
    holdings.misses(&checkpoint.head).map_or(Ok(checkpoint), Err)
}
