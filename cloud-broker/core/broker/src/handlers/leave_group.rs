//! LeaveGroup, versions 0 to 5.

use broker_coordinator::{GroupError, GroupId, MemberName};
use broker_kafka::generated::leave_group::{LeaveGroupRequest, LeaveGroupResponse, MemberResponse};

use super::groups::{code_of, member_name, text};

/// The first version that names several members.
const SEVERAL_FROM: i16 = 3;

/// A LeaveGroup request.
#[derive(Debug)]
pub struct LeaveQuery {
    version: i16,
    pub(crate) group: GroupId,
    pub(crate) members: Vec<MemberName>,
}

impl LeaveQuery {
    pub(crate) fn new(version: i16, request: &LeaveGroupRequest) -> Self {
        let members = if version < SEVERAL_FROM {
            vec![member_name(&request.member_id, None)]
        } else {
            let members = request.members.iter();
            members
                .map(|member| member_name(&member.member_id, member.group_instance_id.as_ref()))
                .collect()
        };
        Self { version, group: GroupId::from(request.group_id.as_str()), members }
    }

    pub(crate) fn response(
        &self,
        outcome: Result<Vec<Result<(), GroupError>>, GroupError>,
    ) -> LeaveGroupResponse {
        let code = |outcome: Result<(), GroupError>| {
            outcome.err().map_or(0, |error| i16::from(code_of(error)))
        };
        let verdicts = match outcome {
            Ok(verdicts) => verdicts,
            Err(error) => {
                let error_code = i16::from(code_of(error));
                return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
            }
        };
        if self.version < SEVERAL_FROM {
            let error_code = verdicts.first().map_or(0, |verdict| code(*verdict));
            return LeaveGroupResponse { error_code, ..LeaveGroupResponse::default() };
        }
        let members = self.members.iter().zip(verdicts).map(|(member, verdict)| MemberResponse {
            member_id: text(member.id.as_str()),
            group_instance_id: member.instance.as_ref().map(|i| text(i.as_str())),
            error_code: code(verdict),
        });
        LeaveGroupResponse { members: members.collect(), ..LeaveGroupResponse::default() }
    }
}
