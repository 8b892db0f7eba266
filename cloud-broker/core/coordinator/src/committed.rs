//! What the records say: groups as they were last saved, and their offsets. Changes only by applying records.

use std::collections::BTreeMap;

use crate::ids::{GroupId, TopicName};
use crate::record::{CommittedOffset, GroupMetadata, Record};

/// What an offset takes of memory beside its texts, rounded up.
pub(crate) const OFFSET_BYTES: usize = 128;

/// Every group that records speak of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CommittedGroups {
    groups: BTreeMap<GroupId, CommittedGroup>,
    offsets_bytes: usize,
}

/// A group as its records have it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct CommittedGroup {
    pub(crate) metadata: Option<GroupMetadata>,
    pub(crate) offsets: BTreeMap<TopicName, BTreeMap<i32, CommittedOffset>>,
    pub(crate) offsets_count: usize,
}

impl CommittedGroups {
    pub(crate) fn apply(&mut self, record: &Record) {
        let id = record.group();
        let group = self.groups.entry(id.clone()).or_default();
        match record {
            Record::Group { metadata, .. } => group.metadata = metadata.clone(),
            Record::Offset { topic, partition, offset, .. } => {
                let old = group.put(topic, *partition, offset.as_ref());
                let bytes = |offset: Option<&CommittedOffset>| {
                    offset.map_or(0, |offset| OFFSET_BYTES + offset.metadata.len())
                };
                self.offsets_bytes += bytes(offset.as_ref());
                self.offsets_bytes -= bytes(old.as_ref());
            }
        }
        if group.metadata.is_none() && group.offsets.is_empty() {
            self.groups.remove(id);
        }
    }

    pub(crate) fn get(&self, group: &str) -> Option<&CommittedGroup> {
        self.groups.get(group)
    }

    pub(crate) fn len(&self) -> usize {
        self.groups.len()
    }

    /// The groups behind `after`, by id.
    pub(crate) fn behind(
        &self,
        after: Option<&GroupId>,
    ) -> impl Iterator<Item = (&GroupId, &CommittedGroup)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.groups.range::<GroupId, _>((from, Unbounded))
    }

    /// Memory that the offsets of all groups take.
    pub(crate) fn offsets_bytes(&self) -> usize {
        self.offsets_bytes
    }
}

impl CommittedGroup {
    pub(crate) fn offset(&self, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.offsets.get(topic)?.get(&partition)
    }

    /// Puts or removes an offset; gives the one that was there.
    fn put(
        &mut self,
        topic: &TopicName,
        partition: i32,
        offset: Option<&CommittedOffset>,
    ) -> Option<CommittedOffset> {
        let old = match offset {
            Some(offset) => {
                let partitions = self.offsets.entry(topic.clone()).or_default();
                partitions.insert(partition, offset.clone())
            }
            None => {
                let partitions = self.offsets.get_mut(topic)?;
                let old = partitions.remove(&partition);
                if partitions.is_empty() {
                    self.offsets.remove(topic);
                }
                old
            }
        };
        self.offsets_count += usize::from(offset.is_some());
        self.offsets_count -= usize::from(old.is_some());
        old
    }
}
