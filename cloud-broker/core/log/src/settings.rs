//! What an operator may set, and the limits that nobody may.

use wire::limits::RECORD_BATCH_BYTES_MAX;

use crate::slot::{ENTRY_BYTES_PER_BATCH, SLOT_ALIGN, SLOT_BYTES_MAX, SLOT_HEADER_BYTES};

/// Partitions that one log holds: each costs memory for as long as it exists.
pub const PARTITIONS_MAX: usize = 1 << 20;

/// Uplink streams that one log remembers: their state is kept for as long as their spool may come back.
pub const UPLINK_STREAMS_MAX: usize = 4 << 20;

/// Pieces of one read plan. A read of many tiny runs ends early; the reader asks again.
pub const READ_PIECES_MAX: usize = 1024;

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
    /// that sync slowly, and the time that a commit under load takes. At most 16 MiB.
    pub slot_bytes_target: usize,
    /// Memory for slots that were just written, in bytes: readers at the end of the log are served from it.
    pub tail_bytes: usize,
    /// Bytes staged or in flight beyond which appends are turned away as [`crate::AppendError::Busy`].
    pub pending_bytes_max: usize,
}

impl Default for LogSettings {
    fn default() -> Self {
        Self {
            wal_file_bytes: 128 << 20,
            slot_bytes_target: 1 << 20,
            tail_bytes: 64 << 20,
            pending_bytes_max: 64 << 20,
        }
    }
}
