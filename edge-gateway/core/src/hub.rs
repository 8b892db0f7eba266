//! Local delivery: who is connected, who subscribed to what, what is retained, queued, and to be said when a client is
//! gone. All of it is memory: it ends with the process.
//!
//! Invariant: the hub hears of a publish only after its commit ([`crate::gateway::Gateway::commit`]), so a subscriber
//! never sees what a crash could undo. The hub never waits for anybody: a client takes as much as it says it has sent
//! ([`Hub::credit`]), the rest queues here within limits, and beyond them it is dropped and counted.
//!
//! Calls: whatever happens, with the time; then [`Hub::poll_effect`] until it gives `None`; [`Hub::handle_timeout`] when
//! [`Hub::next_deadline`] has come.

mod connecting;
mod delivery;
mod limits;
mod retained;
mod sessions;
mod stats;
mod subscriptions;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::num::NonZeroU16;
use std::sync::Arc;

use wire::time::MonoMs;

pub use self::limits::{
    OFFLINE_SESSIONS_MAX, QUEUE_BYTES_MAX, QUEUE_MAX, QUEUES_BYTES_MAX, RETAINED_BYTES_MAX,
    RETAINED_MAX, SESSION_EXPIRY_MAX_S, SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_PER_CLIENT_MAX,
    WINDOW_BYTES_MAX, WINDOW_MAX,
};
use self::retained::Retained;
use self::sessions::Session;
pub use self::sessions::{ClientNo, Entry, Place};
pub use self::stats::{HubCounters, HubStatus};
use self::subscriptions::SubscriptionTree;
use crate::mqtt::{Forward, Message, SessionGrant, SubscribeOutcome, UnsubscribeOutcome};

/// What the hub asks of its shell, in order.
#[derive(Debug)]
pub enum Effect {
    /// Let this connection in. If it is not there any more, say so by [`Hub::leave`].
    Admit {
        /// Who.
        place: Place,
        /// With what.
        grant: SessionGrant,
    },
    /// Ask this connection to go: another one wants its client identifier.
    Evict {
        /// Who.
        place: Place,
    },
    /// Give this to a connection.
    Forward {
        /// To whom.
        place: Place,
        /// What.
        forward: Forward,
    },
    /// Store this as a publish of that client, then call [`Hub::will_stored`].
    StoreWill {
        /// To be given back.
        client: ClientNo,
        /// Whose will it is.
        client_id: Arc<str>,
        /// The will.
        message: Arc<Message>,
    },
    /// The answer to a SUBSCRIBE.
    Subscribed {
        /// To whom.
        place: Place,
        /// Its packet identifier.
        packet_id: NonZeroU16,
        /// What became of each filter.
        outcomes: Vec<SubscribeOutcome>,
    },
    /// Turn this waiting connection away: yet another one wants the client identifier.
    TurnAway {
        /// Who.
        place: Place,
    },
    /// The answer to an UNSUBSCRIBE.
    Unsubscribed {
        /// To whom.
        place: Place,
        /// Its packet identifier.
        packet_id: NonZeroU16,
        /// What became of each filter.
        outcomes: Vec<UnsubscribeOutcome>,
    },
}

/// The owner of sessions, subscriptions and retained messages.
#[derive(Debug, Default)]
pub struct Hub {
    clients: BTreeMap<Arc<str>, ClientNo>,
    sessions: BTreeMap<ClientNo, Session>,
    places: BTreeMap<Place, ClientNo>,
    last_client: u64,
    tree: SubscriptionTree,
    retained: Retained,
    /// Sessions without a connection, by the time at which they end.
    expiries: BTreeSet<(MonoMs, ClientNo)>,
    /// Delayed wills, by the time at which they are published.
    wills: BTreeSet<(MonoMs, ClientNo)>,
    /// Messages in all queues.
    queued: usize,
    /// What they take, in bytes.
    queued_bytes: usize,
    counters: HubCounters,
    effects: VecDeque<Effect>,
}

impl Hub {
    /// A hub in which nobody is connected and these messages of the gateway itself are retained.
    #[must_use]
    pub fn new(own: Vec<Message>) -> Self {
        let mut hub = Self::default();
        for message in own {
            // There is room for the first of ten thousand.
            let _ = hub.retained.set(&Arc::new(message), MonoMs(0));
        }
        hub
    }

    /// The next thing for the shell to do.
    pub fn poll_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// Whether anybody has subscribed to anything. If not, only publishes to be retained need be told.
    #[must_use]
    pub fn has_subscribers(&self) -> bool {
        self.tree.len() > 0
    }

    /// When [`Hub::handle_timeout`] is due next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<MonoMs> {
        let first = |times: &BTreeSet<(MonoMs, ClientNo)>| times.first().map(|(at, _)| *at);
        [first(&self.expiries), first(&self.wills)].into_iter().flatten().min()
    }

    /// Publishes the wills and ends the sessions whose time has come.
    pub fn handle_timeout(&mut self, now: MonoMs) {
        while let Some((_, client)) = pop_due(&mut self.wills, now) {
            self.publish_delayed_will(now, client);
        }
        while let Some((_, client)) = pop_due(&mut self.expiries, now) {
            self.end_session(now, client);
        }
    }
}

fn pop_due(times: &mut BTreeSet<(MonoMs, ClientNo)>, now: MonoMs) -> Option<(MonoMs, ClientNo)> {
    let due = times.first().is_some_and(|(at, _)| *at <= now);
    due.then(|| times.pop_first()).flatten()
}

#[cfg(test)]
mod tests;
