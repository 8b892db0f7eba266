//! What an operator may set, and the limits that nobody may.

use wire::limits::RECORD_BATCH_BYTES_MAX;

use crate::slot::{ENTRY_BYTES_PER_BATCH, SLOT_ALIGN, SLOT_BYTES_MAX, SLOT_HEADER_BYTES};

/// Partitions that one log holds: each costs memory for as long as it exists.
pub const PARTITIONS_MAX: usize = 1 << 20;

/// Uplink streams that one log remembers: their state is kept for as long as their spool may come back.
pub const UPLINK_STREAMS_MAX: usize = 4 << 20;

/// Pieces of one read plan. A read of many tiny runs ends early; the reader asks again.
pub const READ_PIECES_MAX: usize = 1024;

/// A checkpoint is made when the WAL has grown by this many times the last one's size: at most a twentieth of what is
/// written goes into checkpoints.
pub(crate) const CHECKPOINT_FACTOR: u64 = 20;

/// A sealed WAL file with so many bytes in its average run is as good as a unit, and stays where it is.
pub(crate) const ADOPTED_RUN_BYTES: u64 = 64 << 10;

/// How long after the last batch the slot is written that tells a damaged last one from a torn one, in milliseconds.
pub(crate) const IDLE_MARKER_MS: u64 = 1_000;

const DAY_MS: u64 = 86_400_000;

const _: () =
    assert!(SLOT_HEADER_BYTES + ENTRY_BYTES_PER_BATCH + RECORD_BATCH_BYTES_MAX <= SLOT_BYTES_MAX);
const _: () = assert!(SLOT_BYTES_MAX.is_multiple_of(SLOT_ALIGN));

/// Settings of the engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSettings {
    /// Bytes of a WAL file, header included; rounded down to 4 KiB. A slot that is larger gets a file of its own size.
    /// Larger files are deleted later, smaller ones mean more files.
    pub wal_file_bytes: u32,
    /// What a slot aims at, in bytes: a commit takes what is staged up to here. Larger slots raise throughput on disks
    /// that sync slowly, and the time that a commit under load takes. At most 16 MiB, and half of what fits a WAL file.
    pub slot_bytes_target: usize,
    /// Memory for slots that were just written, in bytes: readers at the end of the log are served from it.
    pub tail_bytes: usize,
    /// Bytes staged or in flight beyond which appends are turned away as [`crate::AppendError::Busy`].
    pub pending_bytes_max: usize,
    /// A WAL file gets no more slots this long after the first one that has batches, in milliseconds.
    pub wal_file_age_ms_max: u64,
    /// Bytes that are written to the WAL from one checkpoint to the next, at least. More means that a start replays more,
    /// less that more is written in all.
    pub checkpoint_bytes_min: u64,
    /// Checkpoints that are only made to give space back are at least so far apart, in milliseconds.
    pub space_checkpoint_ms: u64,
    /// Bytes in sealed WAL files with short runs beyond which the oldest are rewritten. Cold reads of such files cost a seek
    /// for each run, so more makes them slower and less writes sooner.
    pub l0_bytes_max: u64,
    /// Runs in sealed WAL files with short runs beyond which the oldest are rewritten.
    pub l0_entries_max: u64,
    /// A sealed WAL file with short runs is rewritten when it is this old, in milliseconds.
    pub l0_age_ms_max: u64,
    /// What one rewriting copies at least, in bytes, if there is so much. More sorts better, and takes longer to give space
    /// back.
    pub rewrite_bytes_min: u64,
    /// A partition with so many bytes in one rewriting gets units of its own, so that they go when it does.
    pub own_unit_bytes: u64,
    /// Bytes of a unit.
    pub unit_bytes: u64,
    /// How often retention and key compaction look at all partitions, in milliseconds.
    pub maintenance_ms: u64,
    /// What one step of the engine beside appends and reads deals with: runs, extents, and partitions, which count as four. Where
    /// slots have more runs than that it is about as many as they have. More makes answers wait longer, less makes checkpoints
    /// and sealing take longer.
    pub step_entries: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            wal_file_bytes: 128 << 20,
            slot_bytes_target: 4 << 20,
            tail_bytes: 64 << 20,
            pending_bytes_max: 64 << 20,
            wal_file_age_ms_max: DAY_MS,
            checkpoint_bytes_min: 128 << 20,
            space_checkpoint_ms: 5_000,
            l0_bytes_max: 32 << 30,
            l0_entries_max: 2_000_000,
            l0_age_ms_max: DAY_MS,
            rewrite_bytes_min: 1 << 30,
            own_unit_bytes: 8 << 20,
            unit_bytes: 256 << 20,
            maintenance_ms: 10_000,
            step_entries: 512,
        }
    }
}
