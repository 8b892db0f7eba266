//! Which topics want a key in each record, as connections need to know it.

use std::collections::BTreeSet;

use broker_kafka::runtime::Uuid;

use crate::groups::is_internal;
use crate::metadata::Image;
use crate::topic_config::RetentionDefaults;

/// The topics that are compacted: there, a record without a key could never be superseded nor looked up. A snapshot, for the
/// connections that check records: a batch that was checked against an older one is stored, and compaction copes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyedTopics {
    names: BTreeSet<String>,
    ids: BTreeSet<Uuid>,
}

impl KeyedTopics {
    pub(crate) fn of(image: &Image, defaults: &RetentionDefaults) -> Self {
        let mut keyed = Self::default();
        for topic in image.topics() {
            // Clients do not write to internal ones at all, which is said elsewhere.
            if topic.configs.cleans_by("compact", defaults) && !is_internal(&topic.name) {
                keyed.names.insert(topic.name.clone());
                keyed.ids.insert(Uuid::from(topic.id));
            }
        }
        keyed
    }

    /// Whether there are none, so that nothing has to be looked at.
    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    pub(crate) fn has_name(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    pub(crate) fn has_id(&self, id: Uuid) -> bool {
        self.ids.contains(&id)
    }
}
