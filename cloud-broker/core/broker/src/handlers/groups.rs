//! What the group APIs have in common: their requests as one type, names, and error codes.

use broker_coordinator::{
    CommitOffsets, DeleteOffsets, GroupError, GroupId, Heartbeat, InstanceId, MemberId, MemberName,
    SyncGroup,
};
use broker_kafka::ErrorCode;
use broker_kafka::generated::Request;
use broker_kafka::runtime::Text;

use super::describe_groups::DescribeGroupsQuery;
use super::find_coordinator::CoordinatorQuery;
use super::join_group::JoinQuery;
use super::leave_group::LeaveQuery;
use super::list_groups::ListGroupsQuery;
use super::offset_fetch::OffsetQuery;
use super::{delete_groups, heartbeat, offset_commit, offset_delete, sync_group};

/// A request to the group coordinator, and its version.
#[derive(Debug)]
pub struct GroupRequest {
    pub(crate) version: i16,
    pub(crate) query: GroupQuery,
}

/// What is asked of the group coordinator, without the bytes of the frame.
#[derive(Debug)]
pub(crate) enum GroupQuery {
    Commit(CommitOffsets),
    Delete(Vec<GroupId>),
    DeleteOffsets(DeleteOffsets),
    Describe(DescribeGroupsQuery),
    Find(CoordinatorQuery),
    Heartbeat(Heartbeat),
    Join(Box<JoinQuery>),
    Leave(LeaveQuery),
    List(ListGroupsQuery),
    Offsets(OffsetQuery),
    Sync(SyncGroup),
}

impl GroupRequest {
    /// Takes what matters from a request of this version; `None` if it is for somebody else.
    #[must_use]
    pub fn prepare(version: i16, request: &Request) -> Option<Self> {
        let query = match request {
            Request::DeleteGroups(request) => GroupQuery::Delete(delete_groups::query(request)),
            Request::DescribeGroups(request) => {
                GroupQuery::Describe(DescribeGroupsQuery::new(version, request))
            }
            Request::FindCoordinator(request) => {
                GroupQuery::Find(CoordinatorQuery::new(version, request))
            }
            Request::Heartbeat(request) => GroupQuery::Heartbeat(heartbeat::query(request)),
            Request::JoinGroup(request) => {
                GroupQuery::Join(Box::new(JoinQuery::new(version, request)))
            }
            Request::LeaveGroup(request) => GroupQuery::Leave(LeaveQuery::new(version, request)),
            Request::ListGroups(request) => GroupQuery::List(ListGroupsQuery::new(request)),
            Request::OffsetCommit(request) => GroupQuery::Commit(offset_commit::query(request)),
            Request::OffsetDelete(request) => {
                GroupQuery::DeleteOffsets(offset_delete::query(request))
            }
            Request::OffsetFetch(request) => {
                GroupQuery::Offsets(OffsetQuery::new(version, request))
            }
            Request::SyncGroup(request) => GroupQuery::Sync(sync_group::query(request)),
            _ => return None,
        };
        Some(Self { version, query })
    }

    /// Says who asks: members are known by it.
    pub(crate) fn set_client(&mut self, client_id: Option<&Text>, host: &str) {
        if let GroupQuery::Join(query) = &mut self.query {
            query.join.client_id = client_id.map_or("", |id| id.as_str()).to_owned();
            query.join.client_host = host.to_owned();
        }
    }

    /// Kafka's name of the API.
    #[must_use]
    pub fn api_name(&self) -> &'static str {
        match self.query {
            GroupQuery::Commit(_) => "OffsetCommit",
            GroupQuery::Delete(_) => "DeleteGroups",
            GroupQuery::DeleteOffsets(_) => "OffsetDelete",
            GroupQuery::Describe(_) => "DescribeGroups",
            GroupQuery::Find(_) => "FindCoordinator",
            GroupQuery::Heartbeat(_) => "Heartbeat",
            GroupQuery::Join(_) => "JoinGroup",
            GroupQuery::Leave(_) => "LeaveGroup",
            GroupQuery::List(_) => "ListGroups",
            GroupQuery::Offsets(_) => "OffsetFetch",
            GroupQuery::Sync(_) => "SyncGroup",
        }
    }
}

/// A copy of a member's name.
pub(super) fn member_name(id: &Text, instance: Option<&Text>) -> MemberName {
    MemberName {
        id: MemberId::from(id.as_str()),
        instance: instance.map(|instance| InstanceId::from(instance.as_str())),
    }
}

pub(super) fn text(text: &str) -> Text {
    Text::from(text)
}

/// Kafka's code of an error.
pub(super) fn code_of(error: GroupError) -> ErrorCode {
    match error {
        GroupError::CoordinatorNotAvailable => ErrorCode::CoordinatorNotAvailable,
        GroupError::FencedInstanceId => ErrorCode::FencedInstanceId,
        GroupError::GroupIdNotFound => ErrorCode::GroupIdNotFound,
        GroupError::GroupMaxSizeReached => ErrorCode::GroupMaxSizeReached,
        GroupError::GroupSubscribedToTopic => ErrorCode::GroupSubscribedToTopic,
        GroupError::IllegalGeneration => ErrorCode::IllegalGeneration,
        GroupError::InconsistentGroupProtocol => ErrorCode::InconsistentGroupProtocol,
        GroupError::InvalidCommitOffsetSize => ErrorCode::InvalidCommitOffsetSize,
        GroupError::InvalidGroupId => ErrorCode::InvalidGroupId,
        GroupError::InvalidRequest => ErrorCode::InvalidRequest,
        GroupError::InvalidSessionTimeout => ErrorCode::InvalidSessionTimeout,
        GroupError::LoadInProgress => ErrorCode::CoordinatorLoadInProgress,
        GroupError::MemberIdRequired => ErrorCode::MemberIdRequired,
        GroupError::NonEmptyGroup => ErrorCode::NonEmptyGroup,
        GroupError::NotCoordinator => ErrorCode::NotCoordinator,
        GroupError::OffsetMetadataTooLarge => ErrorCode::OffsetMetadataTooLarge,
        GroupError::RebalanceInProgress => ErrorCode::RebalanceInProgress,
        GroupError::UnknownMemberId => ErrorCode::UnknownMemberId,
        GroupError::UnknownTopicOrPartition => ErrorCode::UnknownTopicOrPartition,
    }
}
