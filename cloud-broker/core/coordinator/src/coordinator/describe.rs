//! ListGroups, DescribeGroups and DeleteGroups.

use std::collections::VecDeque;

use bytes::Bytes;

use super::{Coordinator, Now};
use crate::error::GroupError;
use crate::group::Phase;
use crate::ids::{GroupId, InstanceId, MemberId};
use crate::outbox::{Answer, Deleting, Then, Write};
use crate::record::{Record, encode_batch};
use crate::settings::DELETION_BYTES_TARGET;

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// The group.
    pub group: GroupId,
    /// What kind of group it is; empty if it only has offsets.
    pub protocol_type: String,
    /// Kafka's name of its state.
    pub state: &'static str,
}

/// A group and its members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupDescription {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// What kind of group it is; empty if it only has offsets.
    pub protocol_type: String,
    /// The protocol, while there is one.
    pub protocol: String,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub id: MemberId,
    /// Of a static member.
    pub instance: Option<InstanceId>,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Its metadata, in a stable group.
    pub metadata: Bytes,
    /// Its assignment, in a stable group.
    pub assignment: Bytes,
}

/// Kafka's names (`ClassicGroupState`).
fn state_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Empty => "Empty",
        Phase::Joining { .. } => "PreparingRebalance",
        Phase::Syncing => "CompletingRebalance",
        Phase::Stable => "Stable",
    }
}

/// The state of a group that only has offsets.
const EMPTY: &str = "Empty";

impl<A: Copy> Coordinator<A> {
    /// Every group that is loaded, by id.
    ///
    /// # Errors
    /// [`GroupError::LoadInProgress`]: not all of them are.
    pub fn list(&self) -> Result<Vec<GroupListing>, GroupError> {
        if !self.is_loaded() {
            return Err(GroupError::LoadInProgress);
        }
        let with_members = self.groups.iter().map(|(id, group)| GroupListing {
            group: id.clone(),
            protocol_type: group.protocol_type().to_owned(),
            state: state_name(group.phase()),
        });
        let only_offsets = self.committed.behind(None);
        let only_offsets = only_offsets.filter(|(id, _)| !self.groups.contains_key(*id));
        let only_offsets = only_offsets.map(|(id, _)| GroupListing {
            group: id.clone(),
            protocol_type: String::new(),
            state: EMPTY,
        });
        let mut all: Vec<_> = with_members.chain(only_offsets).collect();
        all.sort_by(|a, b| a.group.cmp(&b.group));
        Ok(all)
    }

    /// A group and its members.
    ///
    /// # Errors
    /// [`GroupError`]: there is none, or it is not served.
    pub fn describe(&self, id: &GroupId) -> Result<GroupDescription, GroupError> {
        self.route(id)?;
        let Some(group) = self.groups.get(id) else {
            self.committed.get(id.as_str()).ok_or(GroupError::GroupIdNotFound)?;
            return Ok(GroupDescription {
                state: EMPTY,
                protocol_type: String::new(),
                protocol: String::new(),
                members: Vec::new(),
            });
        };
        let is_stable = group.phase() == Phase::Stable;
        let shown = |bytes: Bytes| if is_stable { bytes } else { Bytes::new() };
        let members = group.members().iter().map(|(id, member)| MemberDescription {
            id: id.clone(),
            instance: member.instance.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            metadata: shown(member.metadata(group.protocol())),
            assignment: shown(member.assignment.clone()),
        });
        Ok(GroupDescription {
            state: state_name(group.phase()),
            protocol_type: group.protocol_type().to_owned(),
            protocol: if is_stable { group.protocol().to_owned() } else { String::new() },
            members: members.collect(),
        })
    }

    /// Deletes groups without members, with their offsets; [`Answer::Delete`] follows.
    pub fn delete(&mut self, now: Now, asker: A, groups: Vec<GroupId>) {
        let todo = VecDeque::from(groups);
        self.deleted(now, Deleting { asker, done: Vec::new(), current: None, todo });
    }

    /// Goes on with a deletion: the next tombstones, the next group, or the answer.
    pub(super) fn deleted(&mut self, now: Now, mut deleting: Deleting<A>) {
        loop {
            if let Some((group, mut records)) = deleting.current.take() {
                let step = take_step(&mut records);
                if step.is_empty() {
                    deleting.done.push((group, Ok(())));
                    continue;
                }
                let batch = encode_batch(&step, now.wall);
                let (Ok(partition), Ok(batch)) = (self.route(&group), batch) else {
                    deleting.done.push((group, Err(GroupError::CoordinatorNotAvailable)));
                    continue;
                };
                deleting.current = Some((group, records));
                let then = Then::Delete(deleting);
                self.out.writes.push_back(Write { partition, batch, records: step, then });
                return;
            }
            let Some(group) = deleting.todo.pop_front() else {
                let answer = Answer::Delete(deleting.done);
                return self.out.answer(deleting.asker, answer);
            };
            match self.tombstones(&group) {
                Ok(records) => deleting.current = Some((group, records)),
                Err(error) => deleting.done.push((group, Err(error))),
            }
        }
    }

    pub(super) fn not_deleted(&mut self, now: Now, mut deleting: Deleting<A>) {
        if let Some((group, _)) = deleting.current.take() {
            deleting.done.push((group, Err(GroupError::CoordinatorNotAvailable)));
        }
        self.deleted(now, deleting);
    }

    /// What a group's deletion writes, the group itself last.
    fn tombstones(&self, id: &GroupId) -> Result<VecDeque<Record>, GroupError> {
        self.route(id)?;
        let committed = self.committed.get(id.as_str());
        match (self.groups.get(id), committed) {
            (Some(group), _) if !group.is_idle() => return Err(GroupError::NonEmptyGroup),
            (None, None) => return Err(GroupError::GroupIdNotFound),
            (Some(_), _) | (None, Some(_)) => {}
        }
        let offsets = committed.into_iter().flat_map(|group| &group.offsets);
        let offsets = offsets.flat_map(|(topic, partitions)| {
            partitions.keys().map(|partition| Record::Offset {
                group: id.clone(),
                topic: topic.clone(),
                partition: *partition,
                offset: None,
            })
        });
        let group = Record::Group { group: id.clone(), metadata: None };
        Ok(offsets.chain([group]).collect())
    }
}

/// The records that share the next batch.
fn take_step(records: &mut VecDeque<Record>) -> Vec<Record> {
    let mut bytes = 0;
    let mut step = Vec::new();
    while let Some(record) = records.pop_front() {
        bytes += record.encode().0.len();
        step.push(record);
        if bytes >= DELETION_BYTES_TARGET {
            break;
        }
    }
    step
}
