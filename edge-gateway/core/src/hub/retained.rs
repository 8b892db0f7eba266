//! The last message of each topic, kept for future subscribers (v5 3.3.1.3).

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use wire::time::MonoMs;

use super::limits::{RETAINED_BYTES_MAX, RETAINED_MAX};
use crate::mqtt::{Filter, Message};

/// Retained messages by their topics.
#[derive(Debug, Default)]
pub(super) struct Retained {
    messages: BTreeMap<Box<str>, Arc<Message>>,
    bytes: usize,
    /// No message expires before: there is nothing to purge until then.
    expiry_min: Option<MonoMs>,
}

/// There is no room for one more message. What was retained for its topic is gone all the same: it is outdated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RetainedFull;

impl Retained {
    /// Keeps `message` in place of the one that its topic has; an empty one only deletes that [MQTT-3.3.1-6].
    pub(super) fn set(&mut self, message: &Arc<Message>, now: MonoMs) -> Result<(), RetainedFull> {
        let topic = message.topic.as_str();
        if let Some(old) = self.messages.remove(topic) {
            self.bytes -= old.memory_bytes();
        }
        if message.payload.is_empty() {
            return Ok(());
        }
        let more = message.memory_bytes();
        // Looking at all of them for every message that finds no room would slow down whoever publishes.
        if !self.has_room(more) && self.expiry_min.is_some_and(|at| at <= now) {
            self.purge(now);
        }
        if !self.has_room(more) {
            return Err(RetainedFull);
        }
        self.bytes += more;
        self.expiry_min = self.expiry_min.into_iter().chain(message.expires_at).min();
        self.messages.insert(topic.into(), Arc::clone(message));
        Ok(())
    }

    /// What a new subscription to `filter` gets, by topic.
    pub(super) fn matching(&self, filter: &Filter, now: MonoMs) -> Vec<Arc<Message>> {
        let prefix = filter.literal_prefix();
        let from = (Bound::Included(prefix), Bound::Unbounded);
        let candidates = self.messages.range::<str, _>(from);
        let candidates = candidates.take_while(|(topic, _)| topic.starts_with(prefix));
        let limit = if filter.is_literal() { 1 } else { usize::MAX };
        candidates
            .take(limit)
            .filter(|(topic, message)| filter.matches(topic) && !message.is_expired(now))
            .map(|(_, message)| Arc::clone(message))
            .collect()
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    /// What they take, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    fn has_room(&self, more: usize) -> bool {
        self.messages.len() < RETAINED_MAX && self.bytes + more <= RETAINED_BYTES_MAX
    }

    fn purge(&mut self, now: MonoMs) {
        self.messages.retain(|_, message| !message.is_expired(now));
        self.bytes = self.messages.values().map(|message| message.memory_bytes()).sum();
        self.expiry_min = self.messages.values().filter_map(|message| message.expires_at).min();
    }
}
