//! A checkpoint: everything that the log knows at one slot, so that a start replays only what came after it
//! (docs/formats/checkpoint.md).

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
