//! SyncGroup, versions 0 to 5.

use broker_coordinator::{GroupError, GroupId, MemberId, SyncGroup, Synced};
use broker_kafka::generated::sync_group::{SyncGroupRequest, SyncGroupResponse};
use bytes::Bytes;

use super::groups::{code_of, member_name, text};

/// The request as the coordinator takes it.
pub(crate) fn query(request: &SyncGroupRequest) -> SyncGroup {
    let assignments = request.assignments.iter().map(|assignment| {
        let member = MemberId::from(assignment.member_id.as_str());
        (member, Bytes::copy_from_slice(&assignment.assignment))
    });
    SyncGroup {
        group: GroupId::from(request.group_id.as_str()),
        member: member_name(&request.member_id, request.group_instance_id.as_ref()),
        generation: request.generation_id,
        protocol_type: request.protocol_type.as_ref().map(|kind| kind.as_str().to_owned()),
        protocol: request.protocol_name.as_ref().map(|name| name.as_str().to_owned()),
        assignments: assignments.collect(),
    }
}

pub(crate) fn response(outcome: Result<Synced, GroupError>) -> SyncGroupResponse {
    match outcome {
        Ok(synced) => SyncGroupResponse {
            protocol_type: Some(text(&synced.protocol_type)),
            protocol_name: Some(text(&synced.protocol)),
            assignment: synced.assignment,
            ..SyncGroupResponse::default()
        },
        Err(error) => SyncGroupResponse {
            error_code: i16::from(code_of(error)),
            ..SyncGroupResponse::default()
        },
    }
}
