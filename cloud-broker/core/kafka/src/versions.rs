//! Which APIs and versions the broker serves, and how it says so.

use crate::error_code::ErrorCode;
use crate::generated::ApiKey;
use crate::generated::api_versions::{ApiVersion, ApiVersionsResponse};

/// The versions of one API that clients are told of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Advertised {
    /// The API.
    pub api: ApiKey,
    /// Oldest version.
    pub first: i16,
    /// Newest version.
    pub last: i16,
}

/// Everything that works, by key. What is not here is answered by closing the connection.
pub const ADVERTISED: &[Advertised] = &[
    // Versions 0 to 2 are named and yet refused, as Kafka does: librdkafka takes a broker whose Produce does not
    // start at 0 for one without newer features (KAFKA-18659).
    advertised(ApiKey::Produce, 0, 13),
    advertised(ApiKey::Fetch, 4, 18),
    advertised(ApiKey::ListOffsets, 1, 10),
    advertised(ApiKey::Metadata, 0, 13),
    advertised(ApiKey::OffsetCommit, 2, 9),
    advertised(ApiKey::OffsetFetch, 1, 9),
    advertised(ApiKey::FindCoordinator, 0, 6),
    advertised(ApiKey::JoinGroup, 0, 9),
    advertised(ApiKey::Heartbeat, 0, 4),
    advertised(ApiKey::LeaveGroup, 0, 5),
    advertised(ApiKey::SyncGroup, 0, 5),
    advertised(ApiKey::DescribeGroups, 0, 6),
    advertised(ApiKey::ListGroups, 0, 5),
    advertised(ApiKey::ApiVersions, 0, 4),
    advertised(ApiKey::CreateTopics, 2, 7),
    advertised(ApiKey::DeleteTopics, 1, 6),
    advertised(ApiKey::DeleteRecords, 0, 2),
    advertised(ApiKey::InitProducerId, 0, 5),
    advertised(ApiKey::DescribeConfigs, 1, 4),
    advertised(ApiKey::AlterConfigs, 0, 2),
    advertised(ApiKey::CreatePartitions, 0, 3),
    advertised(ApiKey::DeleteGroups, 0, 2),
    advertised(ApiKey::IncrementalAlterConfigs, 0, 1),
    advertised(ApiKey::OffsetDelete, 0, 0),
];

/// Whether requests of this API and version are read: advertised, and known to the message definitions.
#[must_use]
pub fn is_served(api: ApiKey, version: i16) -> bool {
    let schema = api.schema();
    let is_known = (schema.first..=schema.last).contains(&version);
    let is_advertised = ADVERTISED
        .iter()
        .any(|range| range.api == api && (range.first..=range.last).contains(&version));
    is_known && is_advertised
}

/// The body of an ApiVersions answer: all of [`ADVERTISED`], whether `error` is `None` or `UnsupportedVersion` (KIP-511:
/// a client that asked in a version we do not know learns from the same answer which one we do).
#[must_use]
pub fn api_versions(error: ErrorCode) -> ApiVersionsResponse {
    let api_keys = ADVERTISED.iter().map(|range| ApiVersion {
        api_key: range.api as i16,
        min_version: range.first,
        max_version: range.last,
    });
    ApiVersionsResponse {
        error_code: error.into(),
        api_keys: api_keys.collect(),
        ..ApiVersionsResponse::default()
    }
}

const fn advertised(api: ApiKey, first: i16, last: i16) -> Advertised {
    Advertised { api, first, last }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_advertised_is_stable_and_known() {
        assert!(ADVERTISED.is_sorted_by_key(|range| range.api as i16));
        for range in ADVERTISED {
            let schema = range.api.schema();
            assert!(range.first <= range.last, "{range:?}");
            assert!(range.last <= schema.stable_last, "{range:?}");
            assert!(range.first >= schema.first || range.api == ApiKey::Produce, "{range:?}");
        }
    }

    #[test]
    fn old_produce_is_advertised_but_not_served() {
        let named = api_versions(ErrorCode::None);
        assert_eq!(named.api_keys[0].min_version, 0);
        for (version, served) in [(-1, false), (0, false), (2, false), (3, true), (13, true)] {
            assert_eq!(is_served(ApiKey::Produce, version), served, "{version}");
        }
        assert!(!is_served(ApiKey::Produce, 14));
        assert!(!is_served(ApiKey::Fetch, 3));
    }
}
