//! ListGroups, versions 0 to 5.

use std::collections::BTreeSet;

use broker_coordinator::{GroupError, GroupListing};
use broker_kafka::generated::list_groups::{ListGroupsRequest, ListGroupsResponse, ListedGroup};
use broker_kafka::runtime::Text;

use super::groups::{code_of, text};

/// The type of all groups that there are (KIP-848's groups are "consumer").
const CLASSIC: &str = "classic";

/// A ListGroups request: nothing in a filter lets everything pass. Names are compared without regard to case (KIP-518, KIP-848),
/// so they are kept in lower case; as sets, because there may be many of them and of groups.
#[derive(Debug)]
pub struct ListGroupsQuery {
    states: BTreeSet<String>,
    types: BTreeSet<String>,
}

impl ListGroupsQuery {
    pub(crate) fn new(request: &ListGroupsRequest) -> Self {
        let lower = |names: &[Text]| names.iter().map(|name| name.to_ascii_lowercase()).collect();
        Self { states: lower(&request.states_filter), types: lower(&request.types_filter) }
    }

    pub(crate) fn response(
        &self,
        listed: Result<Vec<GroupListing>, GroupError>,
    ) -> ListGroupsResponse {
        let groups = match listed {
            Ok(groups) => groups,
            Err(error) => {
                let error_code = i16::from(code_of(error));
                return ListGroupsResponse { error_code, ..ListGroupsResponse::default() };
            }
        };
        let passes = |filter: &BTreeSet<String>, name: &str| {
            filter.is_empty() || filter.contains(&name.to_ascii_lowercase())
        };
        let groups = groups.into_iter();
        let groups =
            groups.filter(|g| passes(&self.states, g.state) && passes(&self.types, CLASSIC));
        let groups = groups.map(|group| ListedGroup {
            group_id: text(group.group.as_str()),
            protocol_type: text(&group.protocol_type),
            group_state: Text::from_static(group.state),
            group_type: Text::from_static(CLASSIC),
        });
        ListGroupsResponse { groups: groups.collect(), ..ListGroupsResponse::default() }
    }
}
