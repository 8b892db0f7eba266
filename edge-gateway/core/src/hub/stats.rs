//! What the hub says of itself.

use std::collections::BTreeMap;

use super::Hub;
use crate::mqtt::DropReason;

/// What was counted since the start.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HubCounters {
    /// Messages handed to connections.
    pub forwarded: u64,
    /// Messages that subscribers did not get.
    pub dropped: BTreeMap<DropReason, u64>,
    /// Retained messages that found no room.
    pub retained_refused: u64,
    /// Sessions given up because there were too many.
    pub sessions_discarded: u64,
    /// Wills published.
    pub wills: u64,
}

/// A snapshot for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HubStatus {
    /// What was counted.
    pub counters: HubCounters,
    /// Sessions, connected or not.
    pub sessions: usize,
    /// Subscriptions.
    pub subscriptions: usize,
    /// Retained messages.
    pub retained: usize,
    /// What they take, in bytes.
    pub retained_bytes: usize,
    /// Messages that wait for clients.
    pub queued: usize,
    /// What they take, in bytes.
    pub queued_bytes: usize,
}

impl Hub {
    /// How it stands.
    #[must_use]
    pub fn status(&self) -> HubStatus {
        HubStatus {
            counters: self.counters.clone(),
            sessions: self.sessions.len(),
            subscriptions: self.tree.len(),
            retained: self.retained.len(),
            retained_bytes: self.retained.bytes(),
            queued: self.queued,
            queued_bytes: self.queued_bytes,
        }
    }

    pub(super) fn dropped(&mut self, reason: DropReason, count: usize) {
        if count > 0 {
            *self.counters.dropped.entry(reason).or_default() += count as u64;
        }
    }
}
