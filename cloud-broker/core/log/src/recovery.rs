//! Rebuilding the log from its newest checkpoint and the WAL files behind it, one slot in memory at a time.
//!
//! The rules, each with the mistake it prevents:
//! - The files of an incarnation are a chain of slots that begins with OPEN, which names the incarnation before and the
//!   end of its chain. What lies behind that end is not part of the log.
//! - A bad slot with an intact later one of its incarnation behind it was durable once: that is corruption, refused
//!   with its range, never cut off. With nothing intact behind it, it is the torn tail of a crash and is dropped.
//! - A slot can read back intact and not be on disk (the page cache survives a killed process and a failed sync). So
//!   the last slot is to be written and synced again before anything is served: [`Recovered::rewrite`]. Slots before it
//!   are durable, because only one is ever in flight.
//! - A checkpoint counts if its bytes are intact and all that it names exists. One that is damaged or cannot be read is told of and the one
//!   before it taken; if there are checkpoints and none counts, the log is not opened, because what they told of is not in the WAL.
//!   What exists and is named by none of the two newest is what a crash has left, and is given back.
//! - A last file without a single slot is what a crash while making it leaves: it is dead and its number is used again.

mod base;
mod chain;
mod replay;

use std::collections::BTreeMap;

use bytes::Bytes;
use wire::ids::Incarnation;
use wire::offset::LeaderEpoch;
use wire::time::UnixMs;

use crate::catalog::Catalog;
use crate::checkpoint::CheckpointError;
use crate::ids::{FileNo, PartitionKey, SlotNo, TopicNo, UnitId};
use crate::log::FoundCheckpoints;
use crate::partition::PartitionLog;
use crate::producer::Producers;
use crate::slot::{ALL_SHARDS, Open, Predecessor, ShardEpoch};
use crate::store::{CheckpointId, CheckpointStore, UnitStore};
use crate::uplink_stream::UplinkStreams;
use base::Base;
use chain::Chains;
use replay::Replay;

/// Where recovery reads from: the WAL's folder, or a simulated one.
pub trait WalSource {
    /// Why a read fails. Recovery then fails with it; it can be tried again.
    type Error;

    /// Every WAL file that exists, in any order.
    ///
    /// # Errors
    /// The source's own.
    fn files(&mut self) -> Result<Vec<WalFileLen>, Self::Error>;

    /// The `len` bytes of a file from `pos` on, fewer only at its end.
    ///
    /// # Errors
    /// The source's own.
    fn read_at(&mut self, file_no: FileNo, pos: u64, len: usize) -> Result<Bytes, Self::Error>;
}

/// A WAL file that exists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WalFileLen {
    /// Its number.
    pub file_no: FileNo,
    /// Its bytes.
    pub len: u64,
}

/// Why the log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError<E> {
    /// Another version wrote the newest checkpoint that is intact: use that version.
    #[error("{0}")]
    CheckpointVersion(DamagedCheckpoint),
    /// Data that was durable is damaged or missing. An operator must decide: restore the file, or give the data up.
    #[error("{0}")]
    Corrupt(Corruption),
    /// The log has checkpoints, and none of them can be relied on. What they told of is not in the WAL any more. Restore it from
    /// a copy, or give the data up.
    #[error("{0}, and no other one is good")]
    NoCheckpoint(DamagedCheckpoint),
    /// Reading failed: try again.
    #[error("{0}")]
    Source(E),
    /// Another version wrote this file: use that version.
    #[error("WAL file {file_no} is of version {version}, which this program does not read")]
    Version {
        /// The file.
        file_no: FileNo,
        /// Its version, or its slots'.
        version: u16,
    },
}

impl<E> From<Corruption> for RecoveryError<E> {
    fn from(corruption: Corruption) -> Self {
        Self::Corrupt(corruption)
    }
}

/// A checkpoint that cannot be relied on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("checkpoint {} of {:02x?}: {bad}", .id.n, .id.incarnation.0)]
pub struct DamagedCheckpoint {
    /// Which.
    pub id: CheckpointId,
    /// Why not.
    pub bad: CheckpointBad,
}

/// What is wrong with a checkpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointBad {
    /// It is another one than its name says.
    #[error("it is checkpoint {} of {:02x?}", .0.n, .0.incarnation.0)]
    Another(CheckpointId),
    /// Its bytes are not what was written.
    #[error(transparent)]
    Damaged(CheckpointError),
    /// Something that it names does not exist, or has another length.
    #[error("{0} is missing or cut off")]
    UnitMissing(UnitId),
    /// The store could not read it.
    #[error("it cannot be read")]
    Unreadable,
}

/// Which bytes of which file are wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("WAL file {file_no}, bytes {from} to {to}: {kind}")]
pub struct Corruption {
    /// The file.
    pub file_no: FileNo,
    /// First byte of the range.
    pub from: u64,
    /// The byte behind the range.
    pub to: u64,
    /// What is wrong there.
    pub kind: CorruptionKind,
}

/// What is wrong with a range of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CorruptionKind {
    /// A file of the sequence does not exist.
    #[error("the file is missing")]
    FileMissing,
    /// The header does not match its CRC or its place.
    #[error("the file's header is damaged")]
    Header,
    /// A slot is intact but contradicts the ones before it.
    #[error("slot {slot_no} contradicts the log before it")]
    Inconsistent {
        /// The slot.
        slot_no: SlotNo,
    },
    /// Slots are damaged or missing that were durable: later ones are intact, or another incarnation went on from them.
    #[error("slot {first} is damaged or missing, but the log goes on behind it")]
    Slots {
        /// The first of them.
        first: SlotNo,
    },
}

/// The log as it was found. The shell writes [`Recovered::rewrite`] and syncs it, removes [`Recovered::dead_files`] and
/// syncs the folder, then gives this to [`crate::Log::open`].
#[derive(Debug)]
pub struct Recovered {
    /// What must be written and synced again; `None` for a new log.
    pub rewrite: Option<TailRewrite>,
    /// Files without a slot, to be removed.
    pub dead_files: Vec<FileNo>,
    /// What a crash has left that nothing names, to be given back with [`UnitStore::free`].
    pub orphans: Vec<UnitId>,
    /// Checkpoints that cannot be relied on; an older one was taken. Tell the operator.
    pub damaged: Vec<DamagedCheckpoint>,
    /// For the log line.
    pub report: RecoveryReport,
    pub(crate) next_file_no: FileNo,
    pub(crate) next_topic_no: TopicNo,
    pub(crate) partitions: BTreeMap<PartitionKey, PartitionLog>,
    pub(crate) streams: UplinkStreams,
    pub(crate) producers: Producers,
    pub(crate) catalog: Catalog,
    pub(crate) checkpoints: FoundCheckpoints,
    /// Wall time of the latest commit with records.
    pub(crate) newest_append: Option<UnixMs>,
    last_chain: Option<LastChain>,
}

/// Bytes that read back intact and may not be on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailRewrite {
    /// The file.
    pub file_no: FileNo,
    /// Where each piece begins, and its bytes.
    pub pieces: Vec<(u64, Bytes)>,
}

/// What recovery did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RecoveryReport {
    /// Files read.
    pub files: u64,
    /// Incarnations replayed.
    pub incarnations: u64,
    /// Slots replayed.
    pub slots: u64,
    /// Their bytes.
    pub slot_bytes: u64,
    /// The checkpoint that replay started from, if there was one.
    pub checkpoint: Option<u64>,
    /// What a crash left behind the last slot, if anything. None of it was acknowledged.
    pub torn_tail: Option<TornTail>,
}

/// A range that is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TornTail {
    /// The file.
    pub file_no: FileNo,
    /// First byte of the range.
    pub from: u64,
    /// Behind the last 4 KiB that are not all zero.
    pub to: u64,
}

/// The chain that the next incarnation goes on from.
#[derive(Debug, Clone, Copy)]
struct LastChain {
    incarnation: Incarnation,
    end: SlotNo,
    leader_epoch: u32,
}

impl Recovered {
    pub(crate) fn last_incarnation(&self) -> Option<Incarnation> {
        self.last_chain.map(|chain| chain.incarnation)
    }

    /// The epoch of the next incarnation; 2³¹ restarts are not reached.
    pub(crate) fn next_leader_epoch(&self) -> LeaderEpoch {
        let next = self.next_epoch();
        LeaderEpoch(i32::try_from(next).unwrap_or(i32::MAX))
    }

    pub(crate) fn open_body(&self) -> Open {
        let predecessor = self
            .last_chain
            .map(|chain| Predecessor { incarnation: chain.incarnation, end: chain.end });
        Open {
            predecessors: predecessor.into_iter().collect(),
            shards: vec![ShardEpoch { shard: ALL_SHARDS, epoch: self.next_epoch() }],
        }
    }

    fn next_epoch(&self) -> u32 {
        self.last_chain.map_or(0, |chain| chain.leader_epoch.saturating_add(1))
    }
}

/// Rebuilds the log from what `store` holds.
///
/// # Errors
/// [`RecoveryError`].
pub fn recover<S, E>(store: &mut S) -> Result<Recovered, RecoveryError<E>>
where
    S: WalSource<Error = E> + UnitStore<Error = E> + CheckpointStore<Error = E>,
{
    let mut base = Base::load(store)?;
    let from = base.head.as_ref().map(|head| head.replay);
    let chains = Chains::find(store, std::mem::take(&mut base.files), from.as_ref())?;
    let mut replay = Replay::new(store, base);
    for (i, chain) in chains.chains.iter().enumerate() {
        replay.chain(chain, from.filter(|_| i == 0))?;
    }
    Ok(replay.finish(chains))
}
