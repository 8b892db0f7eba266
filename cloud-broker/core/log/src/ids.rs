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
