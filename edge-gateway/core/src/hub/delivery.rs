//! Publishes find their subscribers.

use std::sync::Arc;

use wire::time::MonoMs;

use super::limits::{QUEUES_BYTES_MAX, SUBSCRIPTIONS_MAX, SUBSCRIPTIONS_PER_CLIENT_MAX};
use super::sessions::{ClientNo, Place};
use super::{Effect, Hub};
use crate::mqtt::{
    Credit, DropReason, Filter, Forward, Message, Qos, RetainHandling, SubscribeOutcome,
    SubscribeRequest, SubscriptionOptions, UnsubscribeOutcome, UnsubscribeRequest,
};

impl Hub {
    /// A publish is committed. Every client gets it at most once, whatever of its subscriptions match, with the highest
    /// quality of service of those (v5 3.3.4 allows that).
    pub fn publish(&mut self, now: MonoMs, message: &Arc<Message>) {
        if message.retain && self.retained.set(message, now).is_err() {
            self.counters.retained_refused += 1;
        }
        if !self.has_subscribers() {
            return;
        }
        let sessions = &self.sessions;
        let counts = |client: ClientNo, options: &SubscriptionOptions| {
            !options.no_local || !is_publisher(message, sessions.get(&client).map(|s| &s.client_id))
        };
        for (client, wanted) in self.tree.matches(message.topic.as_str(), &counts) {
            let forward = Forward {
                message: Arc::clone(message),
                qos: wanted.qos.min(message.qos),
                retain: message.retain && wanted.retain_as_published,
                subscription_ids: wanted.ids,
            };
            self.offer(client, forward);
        }
    }

    /// A connection has sent some of what it was given, and takes more.
    pub fn credit(&mut self, place: Place, credit: Credit) {
        let Some(client) = self.places.get(&place).copied() else { return };
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if let Some(link) = &mut session.link {
            link.give(credit);
        }
        self.feed(client);
    }

    /// A client subscribes. Of one packet no more filters are taken than a client may have, the same one counted again:
    /// each may ask for everything that is retained, and everybody waits for the hub meanwhile.
    pub fn subscribe(&mut self, now: MonoMs, place: Place, request: SubscribeRequest) {
        let Some(client) = self.places.get(&place).copied() else { return };
        let mut outcomes = Vec::with_capacity(request.filters.len());
        let mut wanted = Vec::new();
        for (number, (text, options)) in request.filters.into_iter().enumerate() {
            if number >= SUBSCRIPTIONS_PER_CLIENT_MAX {
                outcomes.push(SubscribeOutcome::QuotaExceeded);
                continue;
            }
            let filter = match Filter::new(&text) {
                Ok(filter) => filter,
                Err(fault) => {
                    outcomes.push(SubscribeOutcome::Invalid(fault));
                    continue;
                }
            };
            let Some(is_new) = self.add(client, &filter, options) else {
                outcomes.push(SubscribeOutcome::QuotaExceeded);
                continue;
            };
            outcomes.push(SubscribeOutcome::Granted(options.qos));
            let sends = match options.retain_handling {
                RetainHandling::Always => true,
                RetainHandling::IfNew => is_new,
                RetainHandling::Never => false,
            };
            if sends {
                wanted.push((filter, options));
            }
        }
        let packet_id = request.packet_id;
        self.effects.push_back(Effect::Subscribed { place, packet_id, outcomes });
        for (filter, options) in wanted {
            self.send_retained(now, client, &filter, options);
        }
    }

    /// A client ends subscriptions.
    pub fn unsubscribe(&mut self, place: Place, request: &UnsubscribeRequest) {
        let Some(client) = self.places.get(&place).copied() else { return };
        let outcome = |text: &Arc<str>| {
            let removed = Filter::new(text).is_ok_and(|filter| self.remove(client, &filter));
            if removed { UnsubscribeOutcome::Removed } else { UnsubscribeOutcome::NotFound }
        };
        let outcomes = request.filters.iter().map(outcome).collect();
        let packet_id = request.packet_id;
        self.effects.push_back(Effect::Unsubscribed { place, packet_id, outcomes });
    }

    /// Gives a client's connection what it takes of its queue.
    pub(super) fn feed(&mut self, client: ClientNo) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        while let Some((place, forward)) = session.take_next() {
            self.queued -= 1;
            self.queued_bytes -= forward.memory_bytes();
            self.counters.forwarded += 1;
            self.effects.push_back(Effect::Forward { place, forward });
        }
    }

    /// Adds a subscription: whether it is new, or `None` if there are too many.
    fn add(
        &mut self,
        client: ClientNo,
        filter: &Filter,
        options: SubscriptionOptions,
    ) -> Option<bool> {
        let session = self.sessions.get_mut(&client)?;
        let full = session.filters.len() >= SUBSCRIPTIONS_PER_CLIENT_MAX
            || self.tree.len() >= SUBSCRIPTIONS_MAX;
        if full && !session.filters.contains(filter) {
            return None;
        }
        session.filters.insert(filter.clone());
        Some(self.tree.insert(client, filter, options))
    }

    fn remove(&mut self, client: ClientNo, filter: &Filter) -> bool {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.filters.remove(filter);
        }
        self.tree.remove(client, filter)
    }

    fn send_retained(
        &mut self,
        now: MonoMs,
        client: ClientNo,
        filter: &Filter,
        options: SubscriptionOptions,
    ) {
        for message in self.retained.matching(filter, now) {
            let client_id = self.sessions.get(&client).map(|session| &session.client_id);
            if options.no_local && is_publisher(&message, client_id) {
                continue;
            }
            let qos = options.qos.min(message.qos);
            let subscription_ids = options.id.into_iter().collect();
            // [MQTT-3.3.1-8]
            self.offer(client, Forward { message, qos, retain: true, subscription_ids });
        }
    }

    /// Queues a message for a client and hands it on if the client takes it. What it takes at once is no matter of the limit
    /// on all queues: those who keep up are not to suffer from those who do not.
    fn offer(&mut self, client: ClientNo, forward: Forward) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if session.link.is_none() && forward.qos == Qos::AtMostOnce {
            return self.dropped(DropReason::Offline, 1);
        }
        let bytes = forward.memory_bytes();
        if !session.takes_at_once() && self.queued_bytes + bytes > QUEUES_BYTES_MAX {
            return self.dropped(DropReason::Memory, 1);
        }
        match session.queue.push(forward) {
            Ok(()) => {
                self.queued += 1;
                self.queued_bytes += bytes;
                self.feed(client);
            }
            Err(reason) => self.dropped(reason, 1),
        }
    }
}

fn is_publisher(message: &Message, client_id: Option<&Arc<str>>) -> bool {
    client_id.is_some() && message.publisher.as_ref() == client_id
}
