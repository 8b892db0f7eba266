//! FindCoordinator, versions 0 to 6.
//!
//! There is one broker, so it is everybody's coordinator; but only once `__consumer_offsets` is there, which the first
//! question makes. Coordinators of transactions and of share groups are refused for good: neither is offered.

use std::collections::BTreeSet;

use broker_kafka::ErrorCode;
use broker_kafka::generated::find_coordinator::{
    Coordinator, FindCoordinatorRequest, FindCoordinatorResponse,
};
use broker_kafka::runtime::Text;

use super::metadata::NODE_ID;
use crate::broker::BrokerSettings;

/// The first version that asks for several at once.
const SEVERAL_FROM: i16 = 4;

/// The key type of groups.
const GROUP: i8 = 0;

/// A FindCoordinator request.
#[derive(Debug)]
pub struct CoordinatorQuery {
    version: i16,
    key_type: i8,
    keys: Vec<Text>,
}

impl CoordinatorQuery {
    pub(crate) fn new(version: i16, request: &FindCoordinatorRequest) -> Self {
        let keys = if version < SEVERAL_FROM {
            vec![request.key.detached()]
        } else {
            // Named again and again, a key is answered once: an answer is many times as long as a short key.
            let mut seen = BTreeSet::new();
            let keys = request.coordinator_keys.iter();
            keys.filter(|key| seen.insert(key.as_bytes())).map(Text::detached).collect()
        };
        Self { version, key_type: request.key_type, keys }
    }

    /// Whether it asks for groups' coordinators.
    pub(crate) fn is_about_groups(&self) -> bool {
        self.key_type == GROUP
    }

    /// The response. `is_there`: whether the coordinator has its topic.
    pub(crate) fn response(
        &self,
        settings: &BrokerSettings,
        is_there: bool,
    ) -> FindCoordinatorResponse {
        let refusal = if !self.is_about_groups() {
            Some((ErrorCode::InvalidRequest, "this broker coordinates consumer groups only"))
        } else if !is_there {
            Some((ErrorCode::CoordinatorNotAvailable, "the offsets topic could not be made"))
        } else {
            None
        };
        let host = Text::from(settings.advertised_host.as_str());
        let mut found = self.keys.iter().map(|key| match refusal {
            None => Coordinator {
                key: key.clone(),
                node_id: NODE_ID,
                host: host.clone(),
                port: i32::from(settings.advertised_port),
                error_code: 0,
                error_message: None,
            },
            Some((code, why)) => Coordinator {
                key: key.clone(),
                node_id: -1,
                host: Text::default(),
                port: -1,
                error_code: i16::from(code),
                error_message: Some(Text::from_static(why)),
            },
        });
        if self.version >= SEVERAL_FROM {
            let coordinators = found.collect();
            return FindCoordinatorResponse { coordinators, ..FindCoordinatorResponse::default() };
        }
        let one = found.next().unwrap_or_default();
        FindCoordinatorResponse {
            error_code: one.error_code,
            error_message: one.error_message,
            node_id: one.node_id,
            host: one.host,
            port: one.port,
            ..FindCoordinatorResponse::default()
        }
    }
}
