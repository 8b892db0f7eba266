//! OffsetCommit, OffsetFetch and OffsetDelete.

use std::collections::BTreeSet;

use super::{Coordinator, Now};
use crate::committed::OFFSET_BYTES;
use crate::error::GroupError;
use crate::group::{Phase, Turn};
use crate::ids::{GroupId, TopicName};
use crate::outbox::{Answer, OffsetVerdict, Then, Write};
use crate::record::{CommittedOffset, Record, encode_batch};
use crate::request::{CommitOffsets, DeleteOffsets, OffsetToCommit};
use crate::settings::{
    GROUP_OFFSETS_MAX, GROUPS_MAX, OFFSET_METADATA_BYTES_MAX, OFFSETS_BYTES_MAX,
};

impl<A: Copy> Coordinator<A> {
    /// Commits offsets; [`Answer::Commit`] follows.
    pub fn commit(&mut self, now: Now, asker: A, commit: CommitOffsets) {
        let all_refused = |error| {
            let verdicts = commit.offsets.iter().map(|offset| verdict(offset, Err(error)));
            Answer::Commit(verdicts.collect())
        };
        let partition = match self.check_commit(now, &commit) {
            Ok(partition) => partition,
            Err(error) => return self.out.answer(asker, all_refused(error)),
        };
        let mut room = self.room(&commit.group);
        let mut records = Vec::new();
        let mut verdicts = Vec::with_capacity(commit.offsets.len());
        for offset in &commit.offsets {
            let outcome = self.check_offset(&commit.group, offset, &mut room);
            if outcome.is_ok() {
                records.push(record_of(&commit, offset, now));
            }
            verdicts.push(verdict(offset, outcome));
        }
        if records.is_empty() {
            return self.out.answer(asker, Answer::Commit(verdicts));
        }
        let Ok(batch) = encode_batch(&records, now.wall) else {
            let refused = all_refused(GroupError::InvalidCommitOffsetSize);
            return self.out.answer(asker, refused);
        };
        let then = Then::Answer {
            asker,
            appended: Answer::Commit(verdicts),
            refused: all_refused(GroupError::CoordinatorNotAvailable),
        };
        self.out.writes.push_back(Write { partition, batch, records, then });
    }

    /// Deletes offsets of a group; [`Answer::DeleteOffsets`] follows. An offset that is not there is deleted already.
    pub fn delete_offsets(&mut self, now: Now, asker: A, delete: &DeleteOffsets) {
        let (partition, records) = match self.offset_tombstones(delete) {
            Ok(found) => found,
            Err(error) => return self.out.answer(asker, Answer::DeleteOffsets(Err(error))),
        };
        let verdicts = delete.offsets.iter().map(|offset| OffsetVerdict {
            topic: offset.topic.clone(),
            partition: offset.partition,
            outcome: offset.known,
        });
        let appended = Answer::DeleteOffsets(Ok(verdicts.collect()));
        if records.is_empty() {
            return self.out.answer(asker, appended);
        }
        let Ok(batch) = encode_batch(&records, now.wall) else {
            let refused = Answer::DeleteOffsets(Err(GroupError::InvalidRequest));
            return self.out.answer(asker, refused);
        };
        let refused = Answer::DeleteOffsets(Err(GroupError::CoordinatorNotAvailable));
        let then = Then::Answer { asker, appended, refused };
        self.out.writes.push_back(Write { partition, batch, records, then });
    }

    /// Where the group lives, and a tombstone for each of the offsets that it has.
    fn offset_tombstones(&self, delete: &DeleteOffsets) -> Result<(u32, Vec<Record>), GroupError> {
        let id = &delete.group;
        let partition = self.route(id)?;
        let Some(committed) = self.committed.get(id.as_str()) else {
            let is_there = self.groups.contains_key(id);
            let error = GroupError::GroupIdNotFound;
            return if is_there { Ok((partition, Vec::new())) } else { Err(error) };
        };
        let known = delete.offsets.iter().filter(|offset| offset.known.is_ok());
        let named: BTreeSet<_> = known.map(|offset| (&offset.topic, offset.partition)).collect();
        let there = named
            .into_iter()
            .filter(|(topic, partition)| committed.offset(topic.as_str(), *partition).is_some());
        let tombstones = there.map(|(topic, partition)| Record::Offset {
            group: id.clone(),
            topic: topic.clone(),
            partition,
            offset: None,
        });
        Ok((partition, tombstones.collect()))
    }

    /// The offset of a group in a partition; `None` if it has none.
    ///
    /// # Errors
    /// [`GroupError`]: the group is not served.
    pub fn offset(
        &self,
        group: &GroupId,
        topic: &str,
        partition: i32,
    ) -> Result<Option<&CommittedOffset>, GroupError> {
        self.route(group)?;
        let committed = self.committed.get(group.as_str());
        Ok(committed.and_then(|group| group.offset(topic, partition)))
    }

    /// All offsets of a group, by topic and partition.
    ///
    /// # Errors
    /// [`GroupError`]: the group is not served.
    pub fn offsets(
        &self,
        group: &GroupId,
    ) -> Result<impl Iterator<Item = (&TopicName, i32, &CommittedOffset)>, GroupError> {
        self.route(group)?;
        let committed = self.committed.get(group.as_str());
        let topics = committed.into_iter().flat_map(|group| &group.offsets);
        Ok(topics.flat_map(|(topic, partitions)| {
            partitions.iter().map(move |(&partition, offset)| (topic, partition, offset))
        }))
    }

    /// Whether this may commit to the group at all (`ClassicGroup.validateOffsetCommit`).
    fn check_commit(&mut self, now: Now, commit: &CommitOffsets) -> Result<u32, GroupError> {
        let partition = self.route(&commit.group)?;
        let Self { groups, settings, out, .. } = self;
        let Some(group) = groups.get_mut(&commit.group) else {
            // Whoever manages its partitions itself needs no group.
            let is_known = self.committed.get(commit.group.as_str()).is_some();
            return match (commit.generation < 0, is_known) {
                (false, _) => Err(GroupError::IllegalGeneration),
                (true, false) if self.committed.len() >= GROUPS_MAX => {
                    Err(GroupError::GroupMaxSizeReached)
                }
                (true, _) => Ok(partition),
            };
        };
        let name = &commit.member;
        if commit.generation < 0 && group.is_empty() {
            return Ok(partition);
        }
        // Somebody who is not in the group must not move what its members go on from.
        group.check_member(name, commit.generation)?;
        if group.phase() == Phase::Syncing {
            // It knows the generation, and not yet what it is assigned there.
            return Err(GroupError::RebalanceInProgress);
        }
        group.keep_alive(&Turn { now, settings, bytes_left: 0, out }, name);
        Ok(partition)
    }

    /// How many more offsets the group may have, and how many more bytes they may take.
    fn room(&self, group: &GroupId) -> Room {
        let committed = self.committed.get(group.as_str());
        let count = committed.map_or(0, |group| group.offsets_count);
        Room {
            offsets: GROUP_OFFSETS_MAX.saturating_sub(count),
            bytes: OFFSETS_BYTES_MAX.saturating_sub(self.committed.offsets_bytes()),
        }
    }

    fn check_offset(
        &self,
        group: &GroupId,
        offset: &OffsetToCommit,
        room: &mut Room,
    ) -> Result<(), GroupError> {
        offset.known?;
        if offset.metadata.len() > OFFSET_METADATA_BYTES_MAX {
            return Err(GroupError::OffsetMetadataTooLarge);
        }
        let committed = self.committed.get(group.as_str());
        let old = committed.and_then(|group| group.offset(offset.topic.as_str(), offset.partition));
        let (count, bytes) = match old {
            Some(old) => (0, offset.metadata.len().saturating_sub(old.metadata.len())),
            None => (1, OFFSET_BYTES + offset.metadata.len()),
        };
        let left = (room.offsets.checked_sub(count), room.bytes.checked_sub(bytes));
        let (Some(offsets), Some(bytes)) = left else {
            return Err(GroupError::InvalidCommitOffsetSize);
        };
        *room = Room { offsets, bytes };
        Ok(())
    }
}

struct Room {
    offsets: usize,
    bytes: usize,
}

fn record_of(commit: &CommitOffsets, offset: &OffsetToCommit, now: Now) -> Record {
    let expires = commit.retention_ms.map(|retention| {
        let retention = i64::try_from(retention).unwrap_or(i64::MAX);
        wire::time::UnixMs(now.wall.0.saturating_add(retention))
    });
    Record::Offset {
        group: commit.group.clone(),
        topic: offset.topic.clone(),
        partition: offset.partition,
        offset: Some(CommittedOffset {
            offset: offset.offset,
            leader_epoch: offset.leader_epoch,
            metadata: offset.metadata.clone(),
            committed: now.wall,
            expires,
        }),
    }
}

fn verdict(offset: &OffsetToCommit, outcome: Result<(), GroupError>) -> OffsetVerdict {
    OffsetVerdict { topic: offset.topic.clone(), partition: offset.partition, outcome }
}
