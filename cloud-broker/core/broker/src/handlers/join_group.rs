//! JoinGroup, versions 0 to 9.

use broker_coordinator::{GroupError, GroupId, Joined, MemberId, Protocol};
use broker_kafka::generated::join_group::{
    JoinGroupRequest, JoinGroupResponse, JoinGroupResponseMember,
};
use broker_kafka::runtime::Text;
use bytes::Bytes;

use super::groups::{code_of, member_name, text};

/// The first version with a rebalance timeout of its own.
const REBALANCE_TIMEOUT_FROM: i16 = 1;

/// The first version whose members get their id before they join (KIP-394).
const KNOWN_ID_FROM: i16 = 4;

/// The first version in which the protocol may be null.
const PROTOCOL_NULLABLE_FROM: i16 = 7;

/// The first version whose leaders may be told to leave the assignment as it is (KIP-814).
const SKIP_ASSIGNMENT_FROM: i16 = 9;

/// A JoinGroup request; the member's new id is still missing.
#[derive(Debug)]
pub struct JoinQuery {
    pub(crate) join: broker_coordinator::JoinGroup,
}

impl JoinQuery {
    pub(crate) fn new(version: i16, request: &JoinGroupRequest) -> Self {
        let rebalance_timeout_ms = if version >= REBALANCE_TIMEOUT_FROM {
            request.rebalance_timeout_ms
        } else {
            request.session_timeout_ms
        };
        let protocols = request.protocols.iter().map(|protocol| Protocol {
            name: protocol.name.as_str().to_owned(),
            metadata: Bytes::copy_from_slice(&protocol.metadata),
        });
        Self {
            join: broker_coordinator::JoinGroup {
                group: GroupId::from(request.group_id.as_str()),
                member: member_name(&request.member_id, request.group_instance_id.as_ref()),
                fresh_id: MemberId::from(""),
                needs_known_id: version >= KNOWN_ID_FROM,
                may_skip_assignment: version >= SKIP_ASSIGNMENT_FROM,
                client_id: String::new(),
                client_host: String::new(),
                session_timeout_ms: request.session_timeout_ms,
                rebalance_timeout_ms,
                protocol_type: request.protocol_type.as_str().to_owned(),
                protocols: protocols.collect(),
            },
        }
    }

    /// What a new member is called: what it calls itself, and something that nobody else has.
    pub(crate) fn name_new_member(&mut self, unique: &str) {
        let join = &mut self.join;
        let name = join.member.instance.as_ref().map_or(join.client_id.as_str(), |i| i.as_str());
        join.fresh_id = MemberId::from(format!("{name}-{unique}").as_str());
    }
}

pub(crate) fn response(
    version: i16,
    outcome: Result<Joined, (GroupError, MemberId)>,
) -> JoinGroupResponse {
    match outcome {
        Ok(joined) => {
            let members = joined.members.into_iter().map(|member| JoinGroupResponseMember {
                member_id: text(member.id.as_str()),
                group_instance_id: member.instance.as_ref().map(|i| text(i.as_str())),
                metadata: member.metadata,
            });
            JoinGroupResponse {
                generation_id: joined.generation,
                protocol_type: Some(text(&joined.protocol_type)),
                protocol_name: Some(text(&joined.protocol)),
                leader: text(joined.leader.as_str()),
                skip_assignment: joined.skip_assignment,
                member_id: text(joined.member.as_str()),
                members: members.collect(),
                ..JoinGroupResponse::default()
            }
        }
        Err((error, member)) => JoinGroupResponse {
            error_code: i16::from(code_of(error)),
            protocol_name: (version < PROTOCOL_NULLABLE_FROM).then(Text::default),
            member_id: text(member.as_str()),
            ..JoinGroupResponse::default()
        },
    }
}
