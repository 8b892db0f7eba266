//! What the log names things by.

use std::fmt;

use wire::ids::Partition;

/// Number of a topic in this log. The metadata maps a topic's name and UUID to it; a number is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicNo(pub u32);

/// One partition of one topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionKey {
    /// The topic.
    pub topic_no: TopicNo,
    /// The partition.
    pub partition: Partition,
}

impl PartitionKey {
    /// The first and the last key that a partition of this topic can have.
    pub(crate) fn all_of(topic_no: TopicNo) -> (Self, Self) {
        let at = |partition| Self { topic_no, partition: Partition(partition) };
        (at(0), at(u32::MAX))
    }

    /// The shard that this partition belongs to. Consecutive partitions of a topic are in consecutive shards.
    #[must_use]
    pub fn shard(self) -> Shard {
        let topic = self.topic_no.0.wrapping_mul(0x9e37_79b1) >> 16;
        let shard = topic.wrapping_add(self.partition.0) % u32::from(SHARDS);
        Shard(u16::try_from(shard).expect("below SHARDS"))
    }
}

/// Shards of a log.
pub const SHARDS: u16 = 1024;

/// The unit of ownership: a label on a partition, which orders the tables of units and checkpoints, so that whoever takes
/// a shard over reads only its part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Shard(pub u16);

/// Number of a unit that was made of WAL files or of other units; never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnitNo(pub u64);

impl fmt::Display for UnitNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What holds durable batches: a WAL file, sealed or not, or a unit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum UnitId {
    /// A WAL file.
    Wal(FileNo),
    /// A unit of its own.
    Unit(UnitNo),
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wal(file_no) => write!(f, "WAL file {file_no}"),
            Self::Unit(unit_no) => write!(f, "unit {unit_no}"),
        }
    }
}

/// Number of a slot in the chain of its incarnation; dense, from 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotNo(pub u64);

impl SlotNo {
    /// The slot behind this one. An incarnation does not live for 2⁶⁴ commits.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for SlotNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a WAL file; dense in its folder, through all incarnations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileNo(pub u64);

impl FileNo {
    /// The first file of a log.
    pub const FIRST: Self = Self(0);

    /// The file behind this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for FileNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
