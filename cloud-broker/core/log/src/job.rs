//! Work that the engine wants done beside it: sealing, checkpoints, rewriting, compaction, giving space back.
//!
//! The engine decides what is to be done ([`crate::Log::take_job`]), the shell runs it on a thread of the job's [`Lane`]
//! against its stores, and gives the result back ([`crate::Log::job_done`]). A job changes nothing that the log relies on: what
//! it made counts only once the engine has taken the result, and after a crash only if a checkpoint names it.

mod checkpoint;
mod compact;
mod free;
mod rewrite;
mod run;
mod seal;

use wire::offset::Offset;
use wire::time::UnixMs;

use crate::checkpoint::{CheckpointHead, CheckpointWriter};
use crate::extent::Extent;
use crate::ids::{FileNo, PartitionKey, SlotNo, UnitId, UnitNo};
use crate::policy::CompactPolicy;
use crate::slot::RunEntry;
use crate::store::CheckpointId;
use crate::unit::UnitMeta;

pub use run::{Pace, Proceed};

/// A run with what its own entry does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitRun {
    /// The run; its position is counted from the start of the file or unit.
    pub entry: RunEntry,
    /// Wall time of its commit.
    pub append_ms: UnixMs,
    /// Sum over its batches (docs/formats/unit.md, "Setsum").
    pub setsum: u64,
}

/// Which jobs wait for each other: one of each lane runs at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Short ones that others wait for: seal, checkpoint, free.
    Housekeeping,
    /// Long ones, paced so that commits do not suffer: rewrite, compact.
    Compaction,
}

/// A piece of work.
#[derive(Debug, Clone)]
pub enum Job {
    /// Write a WAL file's footer.
    Seal(SealJob),
    /// Store a checkpoint, then remove those that it replaces.
    Checkpoint(CheckpointJob),
    /// Give units back.
    Free(FreeJob),
    /// Copy what lives in some units into new ones, sorted by partition.
    Rewrite(RewriteJob),
    /// Keep the last record of each key of a partition.
    Compact(CompactJob),
}

impl Job {
    /// The job's lane.
    #[must_use]
    pub fn lane(&self) -> Lane {
        match self {
            Self::Seal(_) | Self::Checkpoint(_) | Self::Free(_) => Lane::Housekeeping,
            Self::Rewrite(_) | Self::Compact(_) => Lane::Compaction,
        }
    }
}

/// See [`Job::Seal`].
#[derive(Debug, Clone)]
pub struct SealJob {
    /// The file.
    pub file_no: FileNo,
    /// Its first slot.
    pub first_slot: SlotNo,
    /// The slot behind its last.
    pub end_slot: SlotNo,
    /// Where its slots end, in bytes.
    pub slots_end: u64,
    /// The file's size; its footer ends there, or further if it does not fit.
    pub size: u64,
    /// Sum over its runs' sums.
    pub setsum: u64,
    /// Its runs, each partition's together and in the order of their offsets; those that nobody can read any more are left out.
    pub runs: Vec<UnitRun>,
}

/// See [`Job::Checkpoint`].
#[derive(Debug, Clone)]
pub struct CheckpointJob {
    /// Which it is, and what it says of the log as a whole.
    pub head: CheckpointHead,
    /// What it says of the partitions.
    pub writer: CheckpointWriter,
    /// What to remove once it is durable.
    pub replaces: Vec<CheckpointId>,
}

/// See [`Job::Free`].
#[derive(Debug, Clone)]
pub struct FreeJob {
    /// What no checkpoint names and no reader holds.
    pub units: Vec<UnitId>,
}

/// What a job has to copy of one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiveExtent {
    /// The partition.
    pub key: PartitionKey,
    /// Where it lies.
    pub extent: Extent,
    /// Runs that end before this offset are dropped.
    pub log_start: Offset,
}

/// See [`Job::Rewrite`].
#[derive(Debug, Clone)]
pub struct RewriteJob {
    /// The units whose live content is copied; none of them is needed afterwards.
    pub inputs: Vec<UnitMeta>,
    /// What to copy, sorted by partition and offset; the job sorts it by shard.
    pub live: Vec<LiveExtent>,
    /// Numbers for the units that are made, from here on.
    pub first_unit: UnitNo,
    /// A partition with so many bytes to copy gets units of its own.
    pub own_unit_bytes: u64,
    /// A unit is ended once its body has so many bytes. If it is shared, by the partition that takes it there, so it may be
    /// larger by one partition.
    pub unit_bytes: u64,
}

/// See [`Job::Compact`].
#[derive(Debug, Clone)]
pub struct CompactJob {
    /// The partition.
    pub key: PartitionKey,
    /// All its extents from its log start on that may be compacted, in order of offsets, with their units.
    pub extents: Vec<(Extent, UnitMeta)>,
    /// Records below are gone.
    pub log_start: Offset,
    /// Up to here every key was seen by an earlier pass: records behind are what supersedes.
    pub cleaned: Offset,
    /// The topic's policy.
    pub policy: CompactPolicy,
    /// Whether retention deletes from the partition, too.
    pub ages: Ages,
    /// When the pass began.
    pub now: UnixMs,
    /// Numbers for the units that are made, from here on.
    pub first_unit: UnitNo,
}

/// Whether the age of records matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ages {
    /// It does not: what was appended at different times may become one extent, so that there are few.
    Forgotten,
    /// Retention deletes whole extents, so what was appended hours apart is kept apart.
    Kept,
}

/// How a job went.
#[derive(Debug, Clone)]
pub enum JobDone {
    /// The file has its footer.
    Sealed(Made),
    /// The checkpoint is durable.
    Checkpointed(CheckpointId),
    /// These units are gone; others of the job that are not here could not be given back.
    Freed(Vec<UnitId>),
    /// Everything that lived in the inputs is in the units that were made.
    Rewritten {
        /// The units that were copied. One of the job's that is missing here could not be read: nothing of it was copied, it
        /// stays what it was, and `damaged` says why.
        inputs: Vec<UnitId>,
        /// What was made of them.
        made: Made,
        /// What could not be read as what it is: copied as it was found, or, in a unit that is not among `inputs`, not copied.
        damaged: Vec<Damage>,
    },
    /// The partition is compacted.
    Compacted {
        /// The partition.
        key: PartitionKey,
        /// The extents that were compacted, as in the job.
        inputs: Vec<Extent>,
        /// What was made of them; without an extent if no record was left.
        made: Made,
        /// Every key below was seen.
        cleaned: Offset,
        /// When the first tombstone or marker may go; `None` if there is none that waits.
        next_horizon: Option<UnixMs>,
        /// Runs that could not be read, kept as they were found.
        damaged: Vec<Damage>,
    },
    /// It failed and has left nothing behind; the engine asks again later.
    Failed {
        /// Its lane, which is free again.
        lane: Lane,
        /// What was being done.
        doing: &'static str,
        /// The store's error.
        error: String,
    },
}

/// Units that a job has made.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Made {
    /// The units.
    pub units: Vec<UnitMeta>,
    /// What they hold, each partition's in order of offsets.
    pub extents: Vec<(PartitionKey, Extent)>,
}

/// Bytes that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{unit}, bytes {from} to {to}: damaged batches of topic {}, partition {}, offsets {base} to {last}", .key.topic_no.0, .key.partition.0)]
pub struct Damage {
    /// Where.
    pub unit: UnitId,
    /// First byte.
    pub from: u64,
    /// The byte behind.
    pub to: u64,
    /// Whose.
    pub key: PartitionKey,
    /// First offset that cannot be read because of it, as far as that is known.
    pub base: Offset,
    /// Last offset that cannot be read because of it.
    pub last: Offset,
}
