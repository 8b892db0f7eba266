//! What one unit holds of one partition.

use wire::offset::Offset;
use wire::time::UnixMs;

use crate::ids::UnitId;

/// Runs of one partition that lie in one unit, with no offset missing between them that was not compacted away: entries
/// `first` to `first + count` of the unit's table. A unit may hold several extents of a partition, when runs elsewhere lie
/// between them.
///
/// This is what an index costs in memory: 64 bytes for each partition of each unit. Where each run begins, the unit's own
/// table says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extent {
    /// Where it lies.
    pub unit: UnitId,
    /// Offset of the first record.
    pub base: Offset,
    /// Offset of the last record.
    pub last: Offset,
    /// Greatest timestamp of a record.
    pub max_timestamp: UnixMs,
    /// Wall time of the latest commit among them: what retention goes by.
    pub max_append_ms: UnixMs,
    /// Bytes of its batches.
    pub bytes: u64,
    /// Its first entry in the unit's table.
    pub first: u32,
    /// Its entries, at least one.
    pub count: u32,
}

const _: () = assert!(size_of::<Extent>() == 64);
