//! Why the coordinator turns something down.

use thiserror::Error;

/// Why a request, or a part of it, is refused; each stands for Kafka's error of that name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum GroupError {
    /// The log has no room for the record: find the coordinator again and retry.
    #[error("the record could not be written; try again")]
    CoordinatorNotAvailable,
    /// Another member has this instance id now: end.
    #[error("another member has this instance id")]
    FencedInstanceId,
    /// There is no such group.
    #[error("no such group")]
    GroupIdNotFound,
    /// The group, or all of them together, have no room for the member.
    #[error("the group is full")]
    GroupMaxSizeReached,
    /// A member of the group reads the topic: end it first.
    #[error("the group reads the topic")]
    GroupSubscribedToTopic,
    /// The group has another generation: join it again.
    #[error("the group has another generation")]
    IllegalGeneration,
    /// The member has no protocol in common with the others, or another protocol type.
    #[error("no protocol in common with the group")]
    InconsistentGroupProtocol,
    /// More offsets than one commit or one group may have.
    #[error("too many offsets")]
    InvalidCommitOffsetSize,
    /// The group id is empty or too long.
    #[error("not a group id")]
    InvalidGroupId,
    /// The request contradicts itself or exceeds a limit.
    #[error("invalid request")]
    InvalidRequest,
    /// The session timeout is not one that is allowed.
    #[error("the session timeout is not allowed")]
    InvalidSessionTimeout,
    /// The group's records are still being read: try again soon.
    #[error("the group is being loaded")]
    LoadInProgress,
    /// The member gets an id with this refusal and has to join with it.
    #[error("join again with the member id")]
    MemberIdRequired,
    /// The group has members.
    #[error("the group has members")]
    NonEmptyGroup,
    /// The coordinator is not here, or has no topic yet: find it again.
    #[error("not the coordinator")]
    NotCoordinator,
    /// The offset's metadata is too long.
    #[error("the offset's metadata is too long")]
    OffsetMetadataTooLarge,
    /// The group is about to get another generation: join it again.
    #[error("the group is being rebalanced")]
    RebalanceInProgress,
    /// The group does not know the member: join it anew.
    #[error("no such member")]
    UnknownMemberId,
    /// There is no such partition.
    #[error("no such topic or partition")]
    UnknownTopicOrPartition,
}
