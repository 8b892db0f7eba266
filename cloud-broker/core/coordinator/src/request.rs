//! What is asked of the coordinator.

use bytes::Bytes;

use crate::error::GroupError;
use crate::ids::{GroupId, InstanceId, MemberId, TopicName};

/// How a member names itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberName {
    /// What the coordinator called it; empty for one that has no id yet.
    pub id: MemberId,
    /// Of a static member.
    pub instance: Option<InstanceId>,
}

/// A protocol that a member offers, with its metadata, which nobody here reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Protocol {
    /// The protocol's name.
    pub name: String,
    /// The member's metadata for it.
    pub metadata: Bytes,
}

/// A member wants to take part in the next generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroup {
    /// The group.
    pub group: GroupId,
    /// Who joins.
    pub member: MemberName,
    /// The id that the member gets if it has none; never used before.
    pub fresh_id: MemberId,
    /// Whether a member without id is sent back with one first (KIP-394).
    pub needs_known_id: bool,
    /// Whether the member understands that it leads and yet shall not assign (KIP-814).
    pub may_skip_assignment: bool,
    /// What the client calls itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Without a heartbeat for so long, the member is out.
    pub session_timeout_ms: i32,
    /// How long the group waits for the member in a rebalance.
    pub rebalance_timeout_ms: i32,
    /// What kind of group the member thinks it is.
    pub protocol_type: String,
    /// What the member offers, best first.
    pub protocols: Vec<Protocol>,
}

/// A member wants its assignment, and the leader brings everybody's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    /// The group.
    pub group: GroupId,
    /// Who.
    pub member: MemberName,
    /// The generation that it joined.
    pub generation: i32,
    /// What it thinks the protocol type is.
    pub protocol_type: Option<String>,
    /// What it thinks the protocol is.
    pub protocol: Option<String>,
    /// The leader's assignments.
    pub assignments: Vec<(MemberId, Bytes)>,
}

/// A member is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The group.
    pub group: GroupId,
    /// Who.
    pub member: MemberName,
    /// The generation that it is in.
    pub generation: i32,
}

/// Offsets are to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitOffsets {
    /// The group.
    pub group: GroupId,
    /// Who; without an id and in generation −1: somebody outside of the group.
    pub member: MemberName,
    /// The generation that it is in.
    pub generation: i32,
    /// How long they are to be kept, instead of the time that is configured.
    pub retention_ms: Option<u64>,
    /// The offsets.
    pub offsets: Vec<OffsetToCommit>,
}

/// An offset of a commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToCommit {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: i32,
    /// Where to go on.
    pub offset: i64,
    /// Epoch of the last record that was consumed; −1 if unknown.
    pub leader_epoch: i32,
    /// Anything.
    pub metadata: String,
    /// What whoever knows the topics says of it; it is not committed if that is an error.
    pub known: Result<(), GroupError>,
}

/// Offsets are to be forgotten. Whether the group's members still need them, whoever knows their subscriptions says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeleteOffsets {
    /// The group.
    pub group: GroupId,
    /// The offsets.
    pub offsets: Vec<OffsetToDelete>,
}

/// An offset that is to be forgotten.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetToDelete {
    /// The topic.
    pub topic: TopicName,
    /// The partition.
    pub partition: i32,
    /// What whoever knows the topics says of it; it is kept if that is an error.
    pub known: Result<(), GroupError>,
}
