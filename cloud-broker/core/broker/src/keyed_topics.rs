//! Which topics take only records with keys: those that are compacted.

use std::collections::BTreeSet;
use std::sync::Arc;

use wire::ids::TopicId;

use crate::groups::is_internal;
use crate::handlers::TopicName;
use crate::metadata::{Changes, Image, Topic};
use crate::topic_config::RetentionDefaults;

/// The topics whose records need keys. Connections look here before they decode records, which they do for no other topic;
/// one that looked a moment ago may let a record through that compaction drops then.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyedTopics {
    names: BTreeSet<String>,
    ids: BTreeSet<TopicId>,
}

impl KeyedTopics {
    pub(crate) fn of(image: &Image, defaults: &RetentionDefaults) -> Self {
        let mut keyed = Self::default();
        for topic in image.topics().filter(|topic| needs_keys(topic, defaults)) {
            keyed.insert(topic);
        }
        keyed
    }

    pub(crate) fn has(&self, topic: &TopicName) -> bool {
        match topic.by_id() {
            Some(id) => self.ids.contains(&id),
            None => self.names.contains(&*topic.name),
        }
    }

    /// Takes in topics that are gone, and those that were made or changed.
    pub(crate) fn update(self: &mut Arc<Self>, changes: &Changes, defaults: &RetentionDefaults) {
        // A topic may have been made under the name of one that was deleted with the same change.
        for topic in &changes.deleted {
            if self.ids.contains(&topic.id) {
                Arc::make_mut(self).remove(topic);
            }
        }
        for topic in changes.made.iter().chain(&changes.changed) {
            match (self.ids.contains(&topic.id), needs_keys(topic, defaults)) {
                (false, true) => Arc::make_mut(self).insert(topic),
                (true, false) => Arc::make_mut(self).remove(topic),
                (false, false) | (true, true) => {}
            }
        }
    }

    fn insert(&mut self, topic: &Topic) {
        self.names.insert(topic.name.clone());
        self.ids.insert(topic.id);
    }

    fn remove(&mut self, topic: &Topic) {
        self.names.remove(&topic.name);
        self.ids.remove(&topic.id);
    }
}

fn needs_keys(topic: &Topic, defaults: &RetentionDefaults) -> bool {
    // To its own topics the broker writes, and nobody else.
    !is_internal(&topic.name) && topic.configs.cleans_by("compact", defaults)
}
