//! Who wants which messages: a tree of topic levels, in which a wildcard is a level like any other.

use std::collections::BTreeMap;
use std::str::Split;

use super::sessions::ClientNo;
use crate::mqtt::{Filter, Qos, SubscriptionOptions};

const ONE_LEVEL: &str = "+";
const ALL_LEVELS: &str = "#";

/// All subscriptions. No level of it is deeper than a filter may be, which bounds every walk.
#[derive(Debug, Default)]
pub(super) struct SubscriptionTree {
    root: Node,
    len: usize,
}

#[derive(Debug, Default)]
struct Node {
    children: BTreeMap<Box<str>, Node>,
    subscribers: BTreeMap<ClientNo, SubscriptionOptions>,
}

/// What a client's subscriptions want of one message, taken together.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The highest quality of service that one of them was granted [MQTT-3.3.4-2].
    pub(super) qos: Qos,
    /// Whether one of them wants the RETAIN flag as it was published.
    pub(super) retain_as_published: bool,
    /// Identifiers of all of them that have one [MQTT-3.3.4-4].
    pub(super) ids: Vec<u32>,
}

impl SubscriptionTree {
    /// Sets what `client` wants of `filter`; whether that is new.
    pub(super) fn insert(
        &mut self,
        client: ClientNo,
        filter: &Filter,
        options: SubscriptionOptions,
    ) -> bool {
        let mut node = &mut self.root;
        for level in filter.levels() {
            node = node.children.entry(level.into()).or_default();
        }
        let is_new = node.subscribers.insert(client, options).is_none();
        self.len += usize::from(is_new);
        is_new
    }

    /// Ends a subscription; whether there was one.
    pub(super) fn remove(&mut self, client: ClientNo, filter: &Filter) -> bool {
        let removed = self.root.remove(client, filter.as_str().split('/'));
        self.len -= usize::from(removed);
        removed
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What every client wants of a message to `topic`; `counts` says whether a subscription counts for this message.
    pub(super) fn matches(
        &self,
        topic: &str,
        counts: &dyn Fn(ClientNo, &SubscriptionOptions) -> bool,
    ) -> BTreeMap<ClientNo, Wanted> {
        let mut walk = Walk { counts, wanted: BTreeMap::new() };
        let levels = topic.split('/');
        if topic.starts_with('$') {
            // [MQTT-4.7.2-1]: no wildcard in the first level.
            let mut levels = levels;
            let first = levels.next().and_then(|level| self.root.children.get(level));
            if let Some(node) = first {
                walk.visit(node, levels);
            }
        } else {
            walk.visit(&self.root, levels);
        }
        walk.wanted
    }
}

impl Node {
    fn remove(&mut self, client: ClientNo, mut levels: Split<'_, char>) -> bool {
        let Some(level) = levels.next() else {
            return self.subscribers.remove(&client).is_some();
        };
        let Some(child) = self.children.get_mut(level) else {
            return false;
        };
        let removed = child.remove(client, levels);
        if child.children.is_empty() && child.subscribers.is_empty() {
            self.children.remove(level);
        }
        removed
    }
}

struct Walk<'a> {
    counts: &'a dyn Fn(ClientNo, &SubscriptionOptions) -> bool,
    wanted: BTreeMap<ClientNo, Wanted>,
}

impl Walk<'_> {
    fn visit(&mut self, node: &Node, mut levels: Split<'_, char>) {
        // It matches the level above it too (v5 4.7.1.2).
        if let Some(child) = node.children.get(ALL_LEVELS) {
            self.take(child);
        }
        let Some(level) = levels.next() else {
            return self.take(node);
        };
        for level in [level, ONE_LEVEL] {
            if let Some(child) = node.children.get(level) {
                self.visit(child, levels.clone());
            }
        }
    }

    fn take(&mut self, node: &Node) {
        for (client, options) in &node.subscribers {
            if !(self.counts)(*client, options) {
                continue;
            }
            let wanted = self.wanted.entry(*client).or_insert(Wanted {
                qos: Qos::AtMostOnce,
                retain_as_published: false,
                ids: Vec::new(),
            });
            wanted.qos = wanted.qos.max(options.qos);
            wanted.retain_as_published |= options.retain_as_published;
            wanted.ids.extend(options.id);
        }
    }
}
