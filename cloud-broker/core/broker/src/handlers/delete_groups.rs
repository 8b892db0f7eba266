//! DeleteGroups, versions 0 to 2.

use broker_coordinator::{GroupError, GroupId};
use broker_kafka::generated::delete_groups::{
    DeletableGroupResult, DeleteGroupsRequest, DeleteGroupsResponse,
};

use super::groups::{code_of, text};

/// The groups that the request names.
pub(crate) fn query(request: &DeleteGroupsRequest) -> Vec<GroupId> {
    request.groups_names.iter().map(|name| GroupId::from(name.as_str())).collect()
}

pub(crate) fn response(verdicts: Vec<(GroupId, Result<(), GroupError>)>) -> DeleteGroupsResponse {
    let results = verdicts.into_iter().map(|(group, verdict)| DeletableGroupResult {
        group_id: text(group.as_str()),
        error_code: verdict.err().map_or(0, |error| i16::from(code_of(error))),
    });
    DeleteGroupsResponse { results: results.collect(), ..DeleteGroupsResponse::default() }
}
