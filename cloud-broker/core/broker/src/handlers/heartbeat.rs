//! Heartbeat, versions 0 to 4.

use broker_coordinator::{GroupError, GroupId, Heartbeat};
use broker_kafka::generated::heartbeat::{HeartbeatRequest, HeartbeatResponse};

use super::groups::{code_of, member_name};

/// The request as the coordinator takes it.
pub(crate) fn query(request: &HeartbeatRequest) -> Heartbeat {
    Heartbeat {
        group: GroupId::from(request.group_id.as_str()),
        member: member_name(&request.member_id, request.group_instance_id.as_ref()),
        generation: request.generation_id,
    }
}

pub(crate) fn response(outcome: Result<(), GroupError>) -> HeartbeatResponse {
    let error_code = outcome.err().map_or(0, |error| i16::from(code_of(error)));
    HeartbeatResponse { error_code, ..HeartbeatResponse::default() }
}
