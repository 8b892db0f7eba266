//! What comes out of the coordinator: records to append, and answers.

use std::collections::VecDeque;

use bytes::Bytes;

use crate::error::GroupError;
use crate::ids::{GroupId, InstanceId, MemberId, TopicName};
use crate::record::Record;

/// The answer to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// To a commit: what became of each offset, in order.
    Commit(Vec<OffsetVerdict>),
    /// To a deletion of groups: what became of each, in order.
    Delete(Vec<(GroupId, Result<(), GroupError>)>),
    /// To a deletion of offsets: what became of each, in order.
    DeleteOffsets(Result<Vec<OffsetVerdict>, GroupError>),
    /// To a join. The refusal names the member: with `MemberIdRequired`, this is its id.
    Join(Result<Joined, (GroupError, MemberId)>),
    /// To a sync.
    Sync(Result<Synced, GroupError>),
}

/// What became of an offset of a commit or a deletion.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetVerdict {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: i32,
    /// Whether it is committed, or deleted.
    pub outcome: Result<(), GroupError>,
}

/// A member is in a generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The generation.
    pub generation: i32,
    /// What kind of group it is.
    pub protocol_type: String,
    /// The protocol that all have in common.
    pub protocol: String,
    /// Who assigns.
    pub leader: MemberId,
    /// What the member is called.
    pub member: MemberId,
    /// Everybody, for the leader that assigns; nobody for others.
    pub members: Vec<JoinedMember>,
    /// The leader must not assign: the assignment stays.
    pub skip_assignment: bool,
}

/// A member, as the leader sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub id: MemberId,
    /// Of a static member.
    pub instance: Option<InstanceId>,
    /// Its metadata for the protocol.
    pub metadata: Bytes,
}

/// A member's assignment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synced {
    /// What kind of group it is.
    pub protocol_type: String,
    /// The protocol.
    pub protocol: String,
    /// The assignment.
    pub assignment: Bytes,
}

/// A record batch to be appended to a partition of `__consumer_offsets`.
#[derive(Debug)]
pub struct Write<A> {
    /// The partition.
    pub partition: u32,
    /// One whole batch.
    pub batch: Bytes,
    pub(crate) records: Vec<Record>,
    pub(crate) then: Then<A>,
}

/// What happens once a write is appended, or refused.
#[derive(Debug)]
pub(crate) enum Then<A> {
    /// These are the answers.
    Answer { asker: A, appended: Answer, refused: Answer },
    /// The members of this generation get their assignments.
    Assign { group: GroupId, generation: i32, assignments: Vec<(MemberId, Bytes)> },
    /// The deletion goes on.
    Delete(Deleting<A>),
    /// Nobody asked; what was not removed is found again.
    Expire,
    /// A static member that came back with another id goes on.
    Replace { group: GroupId, member: MemberId, leader_before: MemberId, may_skip_assignment: bool },
    /// The group's last state is in the log.
    Save { group: GroupId },
}

/// A deletion of groups under way.
#[derive(Debug)]
pub(crate) struct Deleting<A> {
    pub(crate) asker: A,
    pub(crate) done: Vec<(GroupId, Result<(), GroupError>)>,
    /// The group whose tombstones are being written, and those that are left.
    pub(crate) current: Option<(GroupId, VecDeque<Record>)>,
    pub(crate) todo: VecDeque<GroupId>,
}

/// Writes and answers that wait to be taken.
#[derive(Debug)]
pub(crate) struct Outbox<A> {
    pub(crate) writes: VecDeque<Write<A>>,
    pub(crate) answers: VecDeque<(A, Answer)>,
}

impl<A> Outbox<A> {
    pub(crate) fn new() -> Self {
        Self { writes: VecDeque::new(), answers: VecDeque::new() }
    }

    pub(crate) fn answer(&mut self, asker: A, answer: Answer) {
        self.answers.push_back((asker, answer));
    }
}

impl<A> Write<A> {
    /// Whether it writes a record of this group.
    pub(crate) fn concerns(&self, group: &GroupId) -> bool {
        self.records.iter().any(|record| record.group() == group)
    }
}
