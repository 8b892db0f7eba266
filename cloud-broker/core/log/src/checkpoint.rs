//! A checkpoint: everything that the log knows at one slot, so that a start replays only what came after it
//! (docs/formats/checkpoint.md).
//!
//! [`CheckpointWriter`] lays it out from what the engine knows, [`Checkpoint::decode`] reads it whole, and whoever wants one
//! shard only reads the [`CheckpointIndex`] and that shard's section.
//!
//! Deliberately missing: when one is due and which are kept (the engine decides), and where it is stored.

mod consistency;
mod error;
mod header;
mod partition;
mod producers;
mod shard;
mod units;
mod writer;

use std::collections::BTreeMap;

pub use error::{CheckpointError, CheckpointErrorKind, SectionTooLarge};
pub use header::{
    CHECKPOINT_HEADER_BYTES, CHECKPOINT_VERSION, CheckpointIndex, SECTIONS_MAX, Section,
    SectionKind,
};
pub use writer::CheckpointWriter;

use wire::ids::{Incarnation, ProducerId};
use wire::offset::{LeaderEpoch, Offset};
use wire::seq::StreamSeq;
use wire::time::UnixMs;
use wire::uplink::StreamState;

use crate::extent::Extent;
use crate::ids::{FileNo, PartitionKey, SlotNo, TopicNo, UnitNo};
use crate::job::UnitRun;
use crate::store::CheckpointId;
use crate::unit::UnitMeta;

/// Where replay begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplayFrom {
    /// The chain that the slot belongs to.
    pub incarnation: Incarnation,
    /// Its leader epoch.
    pub leader_epoch: LeaderEpoch,
    /// The first slot that the checkpoint does not cover.
    pub slot_no: SlotNo,
    /// The CRC of the slot before it.
    pub prev_crc: u32,
    /// The file in which it would begin, or the file behind that one if there is no room left.
    pub file_no: FileNo,
    /// Where in the file, in bytes.
    pub pos: u64,
}

/// What a checkpoint says of the log as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CheckpointHead {
    /// Which.
    pub id: CheckpointId,
    /// Where replay begins.
    pub replay: ReplayFrom,
    /// No checkpoint that is kept needs a slot below this one.
    pub gc_slot: SlotNo,
    /// The number of the next unit that is made.
    pub next_unit: UnitNo,
    /// A number that no topic ever had.
    pub next_topic: TopicNo,
    /// Every unit, sorted by id. WAL files that are not sealed are not among them.
    pub units: Vec<UnitMeta>,
    /// The WAL files that are not sealed, in order; the last may be the one in which replay begins.
    pub unsealed: Vec<UnsealedFile>,
}

/// A WAL file that has no footer yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnsealedFile {
    /// The file.
    pub file_no: FileNo,
    /// Its first slot.
    pub first_slot: SlotNo,
    /// The slot behind the last that the checkpoint covers.
    pub end_slot: SlotNo,
    /// Where those slots end, in bytes.
    pub slots_end: u64,
    /// The file's size.
    pub size: u64,
}

/// What a checkpoint says of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionState {
    /// The partition.
    pub key: PartitionKey,
    /// The first offset that can be read.
    pub log_start: Offset,
    /// The offset behind the last durable record.
    pub next: Offset,
    /// Keys below this offset were seen by a compaction; zero if there was none.
    pub cleaned: Offset,
    /// When the first tombstone or marker below `cleaned` may go.
    pub next_horizon: Option<UnixMs>,
    /// Where each leader epoch begins, in order.
    pub epochs: Vec<(LeaderEpoch, Offset)>,
    /// Its extents, in order of offsets.
    pub extents: Vec<Extent>,
    /// Its runs in WAL files that are not sealed, in order of offsets.
    pub runs: Vec<(FileNo, UnitRun)>,
    /// Its idempotent producers, sorted by id.
    pub producers: Vec<ProducerState>,
    /// Its uplink streams, sorted by id.
    pub streams: Vec<(ProducerId, StreamState)>,
}

impl PartitionState {
    /// A partition that holds nothing.
    #[must_use]
    pub fn empty(key: PartitionKey) -> Self {
        Self {
            key,
            log_start: Offset::ZERO,
            next: Offset::ZERO,
            cleaned: Offset::ZERO,
            next_horizon: None,
            epochs: Vec::new(),
            extents: Vec::new(),
            runs: Vec::new(),
            producers: Vec::new(),
            streams: Vec::new(),
        }
    }
}

/// Where an idempotent producer stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProducerState {
    /// The producer.
    pub pid: ProducerId,
    /// Its epoch.
    pub epoch: i16,
    /// Wall time of its last append.
    pub used: UnixMs,
    /// Its last batches, the oldest first; at most [`crate::BATCHES_KEPT`].
    pub batches: Vec<ProducerBatchState>,
}

/// One of a producer's last batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatchState {
    /// First sequence.
    pub base: StreamSeq,
    /// Last sequence.
    pub last: StreamSeq,
    /// Offset of the first record.
    pub base_offset: Offset,
    /// The broker's time, if the batch bears that instead of its producer's.
    pub append_time: Option<UnixMs>,
}

/// A checkpoint that was read: intact and consistent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log as a whole.
    pub head: CheckpointHead,
    /// Its partitions.
    pub partitions: BTreeMap<PartitionKey, PartitionState>,
}

impl Checkpoint {
    /// Reads a checkpoint: its file, whole.
    ///
    /// # Errors
    /// [`CheckpointError`]: which bytes are wrong. Nothing of it should be used.
    pub fn decode(bytes: &[u8]) -> Result<Self, CheckpointError> {
        let index = CheckpointIndex::decode(bytes)?;
        index.check_len(bytes.len() as u64)?;
        let (units, shards) = index.sections.split_first().expect("an index has a list of units");
        let head = index.decode_head(units.of(bytes))?;
        let mut partitions = Vec::new();
        for section in shards {
            partitions.extend(section.decode_shard(section.of(bytes), &head)?);
        }
        let partitions = partitions.into_iter().map(|state| (state.key, state)).collect();
        Ok(Self { head, partitions })
    }
}

impl CheckpointIndex {
    /// Reads the list of units, the first of the sections, whose bytes these are.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn decode_head(&self, bytes: &[u8]) -> Result<CheckpointHead, CheckpointError> {
        let section = self.sections.first().expect("an index has a list of units");
        let units = units::decode(section.check(bytes)?).map_err(|kind| section.error(kind))?;
        Ok(CheckpointHead {
            id: self.id,
            replay: ReplayFrom {
                incarnation: self.id.incarnation,
                leader_epoch: self.leader_epoch,
                slot_no: self.replay_slot,
                prev_crc: self.prev_crc,
                file_no: units.replay_file,
                pos: units.replay_pos,
            },
            gc_slot: self.gc_slot,
            next_unit: units.next_unit,
            next_topic: units.next_topic,
            units: units.units,
            unsealed: units.unsealed,
        })
    }
}

impl Section {
    /// Reads the partitions of a shard, sorted by key, from the section's bytes and the head of its checkpoint.
    ///
    /// # Errors
    /// [`CheckpointError`].
    pub fn decode_shard(
        &self,
        bytes: &[u8],
        head: &CheckpointHead,
    ) -> Result<Vec<PartitionState>, CheckpointError> {
        let SectionKind::Shard(shard) = self.kind else {
            return Err(self.error(CheckpointErrorKind::Inconsistent("no shard's section")));
        };
        let states = shard::decode(shard, self.check(bytes)?).map_err(|kind| self.error(kind))?;
        match states.iter().find_map(|state| head.misplaced(state)) {
            None => Ok(states),
            Some(what) => Err(self.error(CheckpointErrorKind::Inconsistent(what))),
        }
    }
}
