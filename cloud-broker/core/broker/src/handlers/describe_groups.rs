//! DescribeGroups, versions 0 to 6.

use std::collections::BTreeSet;

use broker_coordinator::{Coordinator, GroupDescription, GroupError, GroupId};
use broker_kafka::ErrorCode;
use broker_kafka::generated::describe_groups::{
    DescribeGroupsRequest, DescribeGroupsResponse, DescribedGroup, DescribedGroupMember,
};
use broker_kafka::runtime::Text;

use super::groups::{code_of, text};

/// The first version that says of a group that it is not there; before, such groups were "dead".
const NOT_FOUND_FROM: i16 = 6;

/// The state of a group that is not there.
const DEAD: &str = "Dead";

/// What anybody may do with a group as long as there are no ACLs, one bit for each of Kafka's `AclOperation` codes:
/// READ, DELETE, DESCRIBE.
const GROUP_OPERATIONS: i32 = 1 << 3 | 1 << 6 | 1 << 8;

/// Bytes of members' metadata and assignments that one response holds at most: groups beyond it are to be asked for by
/// themselves.
const DESCRIBED_BYTES_MAX: usize = 32 << 20;

/// A DescribeGroups request.
#[derive(Debug)]
pub struct DescribeGroupsQuery {
    version: i16,
    groups: BTreeSet<Text>,
    wants_operations: bool,
}

impl DescribeGroupsQuery {
    pub(crate) fn new(version: i16, request: &DescribeGroupsRequest) -> Self {
        Self {
            version,
            // A group that is named again and again is described once.
            groups: request.groups.iter().map(Text::detached).collect::<BTreeSet<_>>(),
            wants_operations: request.include_authorized_operations,
        }
    }

    pub(crate) fn response<A: Copy>(
        &self,
        coordinator: Result<&Coordinator<A>, GroupError>,
    ) -> DescribeGroupsResponse {
        let mut left = DESCRIBED_BYTES_MAX;
        let groups = self.groups.iter().map(|id| {
            let group = GroupId::from(id.as_str());
            let described = coordinator.and_then(|coordinator| {
                let described = coordinator.describe(&group)?;
                left = left.checked_sub(bytes(&described)).ok_or(GroupError::InvalidRequest)?;
                Ok(described)
            });
            self.one(id, described)
        });
        DescribeGroupsResponse { groups: groups.collect(), ..DescribeGroupsResponse::default() }
    }

    fn one(&self, id: &Text, described: Result<GroupDescription, GroupError>) -> DescribedGroup {
        let mut group = DescribedGroup { group_id: id.clone(), ..DescribedGroup::default() };
        match described {
            Ok(found) => {
                group.group_state = Text::from_static(found.state);
                group.protocol_type = text(&found.protocol_type);
                group.protocol_data = text(&found.protocol);
                let members = found.members.into_iter().map(|member| DescribedGroupMember {
                    member_id: text(member.id.as_str()),
                    group_instance_id: member.instance.as_ref().map(|i| text(i.as_str())),
                    client_id: text(&member.client_id),
                    client_host: text(&member.client_host),
                    member_metadata: member.metadata,
                    member_assignment: member.assignment,
                });
                group.members = members.collect();
            }
            Err(GroupError::GroupIdNotFound) => {
                group.group_state = Text::from_static(DEAD);
                if self.version >= NOT_FOUND_FROM {
                    group.error_code = i16::from(ErrorCode::GroupIdNotFound);
                    group.error_message = Some(Text::from_static("no such group"));
                }
            }
            Err(error) => group.error_code = i16::from(code_of(error)),
        }
        if self.wants_operations {
            group.authorized_operations = GROUP_OPERATIONS;
        }
        group
    }
}

fn bytes(group: &GroupDescription) -> usize {
    let members = group.members.iter();
    members.map(|member| member.metadata.len() + member.assignment.len()).sum()
}
