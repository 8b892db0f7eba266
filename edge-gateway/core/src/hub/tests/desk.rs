//! A hub under test with its shell's part played.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;

use bytes::Bytes;
use wire::time::MonoMs;

use crate::hub::{ClientNo, Effect, Entry, Hub, Place};
use crate::mqtt::{
    Credit, Departure, Forward, Message, Qos, RetainHandling, SessionState, SubscribeOutcome,
    SubscribeRequest, SubscriptionOptions, Text, Topic, UnsubscribeOutcome, UnsubscribeRequest,
    Will,
};

pub(super) fn message(topic: &str, payload: &str, qos: Qos) -> Message {
    let text = Text::new(Bytes::copy_from_slice(topic.as_bytes())).unwrap();
    Message {
        topic: Topic::new(text).unwrap(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos,
        retain: false,
        sequence: None,
        maybe_dup: false,
        properties: None,
        publisher: None,
        expires_at: None,
    }
}

pub(super) fn will(topic: &str, payload: &str, delay_s: u32) -> Option<Box<Will>> {
    let message = message(topic, payload, Qos::AtLeastOnce);
    Some(Box::new(Will {
        topic: message.topic,
        payload: message.payload,
        qos: message.qos,
        retain: false,
        properties: None,
        delay_s,
    }))
}

pub(super) fn options(qos: Qos) -> SubscriptionOptions {
    SubscriptionOptions {
        qos,
        no_local: false,
        retain_as_published: false,
        retain_handling: RetainHandling::Always,
        id: None,
    }
}

pub(super) const LOST: Departure = Departure::LOST;
pub(super) const GOODBYE: Departure = Departure { with_will: false, session_expiry_s: None };

/// The hub, and what its shell remembers.
pub(super) struct Desk {
    pub(super) hub: Hub,
    pub(super) now: MonoMs,
    /// Who is let in, with the session that was granted.
    pub(super) inside: BTreeMap<Place, SessionState>,
    /// Wills that are with the store.
    pub(super) wills: Vec<(ClientNo, Arc<Message>)>,
    last_place: u64,
}

impl Desk {
    pub(super) fn new() -> Self {
        Self {
            hub: Hub::new(Vec::new()),
            now: MonoMs(1_000),
            inside: BTreeMap::new(),
            wills: Vec::new(),
            last_place: 0,
        }
    }

    /// What the hub asked for, in words.
    pub(super) fn words(&mut self) -> Vec<String> {
        let mut words = Vec::new();
        while let Some(effect) = self.hub.poll_effect() {
            words.push(self.word(effect));
        }
        words
    }

    fn word(&mut self, effect: Effect) -> String {
        match effect {
            Effect::Admit { place, grant } => {
                self.inside.insert(place, grant.state);
                let session = if grant.present { " with session" } else { "" };
                format!("admit {}{session}, expiry {}", place.0, grant.expiry_s)
            }
            Effect::Evict { place } => format!("evict {}", place.0),
            Effect::TurnAway { place } => format!("turn away {}", place.0),
            Effect::Forward { place, forward } => {
                let Forward { message, qos, retain, subscription_ids } = forward;
                let retain = if retain { " retained" } else { "" };
                let ids = if subscription_ids.is_empty() {
                    String::new()
                } else {
                    format!(" by {subscription_ids:?}")
                };
                let payload = String::from_utf8_lossy(&message.payload);
                let (place, qos) = (place.0, qos as u8);
                format!("{place} gets {} {payload} qos {qos}{retain}{ids}", message.topic)
            }
            Effect::StoreWill { client, client_id, message } => {
                let word = format!(
                    "store will of {client_id}: {}",
                    String::from_utf8_lossy(&message.payload)
                );
                self.wills.push((client, message));
                word
            }
            Effect::Subscribed { place, outcomes, .. } => {
                let outcomes = outcomes.iter().map(|outcome| match outcome {
                    SubscribeOutcome::Granted(qos) => (*qos as u8).to_string(),
                    SubscribeOutcome::Invalid(fault) => format!("{fault:?}"),
                    SubscribeOutcome::QuotaExceeded => "quota".into(),
                });
                format!("{} subscribed {}", place.0, outcomes.collect::<Vec<_>>().join(" "))
            }
            Effect::Unsubscribed { place, outcomes, .. } => {
                let outcomes = outcomes.iter().map(|outcome| match outcome {
                    UnsubscribeOutcome::NotFound => "nothing",
                    UnsubscribeOutcome::Removed => "removed",
                });
                format!("{} unsubscribed {}", place.0, outcomes.collect::<Vec<_>>().join(" "))
            }
        }
    }

    /// A client comes in with a clean session that ends with its connection.
    pub(super) fn enter(&mut self, client_id: &str) -> Place {
        let place = self.ask(client_id, true, 0, None);
        let words = self.words();
        assert_eq!(words, [format!("admit {}, expiry 0", place.0)]);
        place
    }

    /// A client comes in or back to a session that is kept for an hour.
    pub(super) fn enter_kept(&mut self, client_id: &str) -> Place {
        let place = self.ask(client_id, false, 3_600, None);
        assert!(self.hub.status().sessions > 0);
        place
    }

    /// A client wants to come in.
    pub(super) fn ask(
        &mut self,
        client_id: &str,
        clean_start: bool,
        session_expiry_s: u32,
        will: Option<Box<Will>>,
    ) -> Place {
        self.last_place += 1;
        let place = Place(self.last_place);
        let entry = Entry { client_id: client_id.into(), clean_start, session_expiry_s, will };
        self.hub.enter(self.now, place, entry);
        place
    }

    pub(super) fn leave(&mut self, place: Place, departure: Departure) -> Vec<String> {
        let state = self.inside.remove(&place).unwrap();
        self.hub.leave(self.now, place, state, Vec::new(), departure);
        self.words()
    }

    pub(super) fn subscribe(&mut self, place: Place, filter: &str, qos: Qos) -> Vec<String> {
        self.subscribe_with(place, filter, options(qos))
    }

    pub(super) fn subscribe_with(
        &mut self,
        place: Place,
        filter: &str,
        options: SubscriptionOptions,
    ) -> Vec<String> {
        let filters = vec![(filter.into(), options)];
        let request = SubscribeRequest { packet_id: NonZeroU16::MIN, filters };
        self.hub.subscribe(self.now, place, request);
        self.words()
    }

    pub(super) fn unsubscribe(&mut self, place: Place, filter: &str) -> Vec<String> {
        let filters = vec![filter.into()];
        self.hub.unsubscribe(place, &UnsubscribeRequest { packet_id: NonZeroU16::MIN, filters });
        self.words()
    }

    pub(super) fn publish(&mut self, message: Message) -> Vec<String> {
        self.hub.publish(self.now, &Arc::new(message));
        self.words()
    }

    pub(super) fn say(&mut self, topic: &str, payload: &str) -> Vec<String> {
        self.publish(message(topic, payload, Qos::ExactlyOnce))
    }

    pub(super) fn retain(&mut self, topic: &str, payload: &str) -> Vec<String> {
        self.publish(Message { retain: true, ..message(topic, payload, Qos::AtLeastOnce) })
    }

    pub(super) fn credit(&mut self, place: Place, count: usize, bytes: usize) -> Vec<String> {
        self.hub.credit(place, Credit { count, bytes });
        self.words()
    }

    pub(super) fn pass(&mut self, ms: u64) -> Vec<String> {
        self.now = self.now + ms;
        if self.hub.next_deadline().is_some_and(|at| at <= self.now) {
            self.hub.handle_timeout(self.now);
        }
        self.words()
    }

    /// The store has the oldest will.
    pub(super) fn store_will(&mut self) -> Vec<String> {
        let (client, message) = self.wills.remove(0);
        self.hub.will_stored(self.now, client, &message);
        self.words()
    }
}
