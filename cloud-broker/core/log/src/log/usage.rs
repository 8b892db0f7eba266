//! How much there is of everything.

use super::Log;
use crate::ids::{PartitionKey, UnitId};

/// What the log consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogUsage {
    /// Bytes of batches that can be read.
    pub live_bytes: u64,
    /// WAL files that are not sealed.
    pub wal_files: usize,
    /// Bytes of sealed WAL files with short runs, which are to be rewritten.
    pub l0_bytes: u64,
    /// Units, sealed WAL files among them.
    pub units: usize,
    /// Their bytes.
    pub unit_bytes: u64,
    /// Units and WAL files that wait to be given back.
    pub dead_units: usize,
    /// Their bytes.
    pub dead_bytes: u64,
    /// Entries of the index in memory: extents of units.
    pub extents: usize,
    /// Entries of the index in memory: runs in WAL files that are not sealed.
    pub runs: usize,
    /// Bytes of the last checkpoint; 0 if there is none.
    pub checkpoint_bytes: u64,
    /// Bytes that were written to the WAL since the last checkpoint.
    pub wal_bytes_since_checkpoint: u64,
}

impl Log {
    /// Bytes of a partition's batches, if it exists.
    #[must_use]
    pub fn partition_bytes(&self, key: PartitionKey) -> Option<u64> {
        Some(self.partitions.get(&key)?.bytes())
    }

    /// What the log consists of. Looks at every partition: for metrics, not for every commit.
    #[must_use]
    pub fn usage(&self) -> LogUsage {
        let mut usage = LogUsage { wal_files: self.catalog.files.len(), ..LogUsage::default() };
        for partition in self.partitions.values() {
            usage.live_bytes += partition.bytes();
            usage.extents += partition.extents().len();
            usage.runs += partition.runs().len();
        }
        for unit in self.catalog.units() {
            usage.units += 1;
            usage.unit_bytes += unit.meta.len;
            if unit.is_short() && matches!(unit.meta.id, UnitId::Wal(_)) {
                usage.l0_bytes += unit.meta.len;
            }
        }
        (usage.dead_units, usage.dead_bytes) = self.catalog.dead();
        usage.checkpoint_bytes = self.jobs.checkpoint_bytes();
        usage.wal_bytes_since_checkpoint = self.jobs.wal_bytes();
        usage
    }
}
