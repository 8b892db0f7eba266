//! Connections come and go, sessions begin and end (v5 3.1.2.4, 3.1.2.11.2, 3.1.4), and wills are published.

use std::collections::VecDeque;
use std::sync::Arc;

use wire::time::MonoMs;

use super::limits::{OFFLINE_SESSIONS_MAX, SESSION_EXPIRY_MAX_S};
use super::sessions::{ClientNo, Entry, Link, Place, Session};
use super::{Effect, Hub};
use crate::mqtt::{Departure, DropReason, Forward, Message, SessionGrant, SessionState, Will};

impl Hub {
    /// A client wants to come in. It is let in ([`Effect::Admit`]) once whoever has its identifier is off, or turned away
    /// ([`Effect::TurnAway`]) if yet another one comes meanwhile.
    pub fn enter(&mut self, now: MonoMs, place: Place, entry: Entry) {
        self.handle_timeout(now);
        let client = self.client(&entry.client_id);
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if let Some(link) = &mut session.link
            && !link.evicted
        {
            link.evicted = true;
            self.effects.push_back(Effect::Evict { place: link.place });
        }
        if let Some((displaced, _)) = session.next.replace((place, entry)) {
            self.effects.push_back(Effect::TurnAway { place: displaced });
        }
        self.admit_next(now, client);
    }

    /// A connection that was let in is over, and everything that it published is stored or refused. `state` is what
    /// [`crate::mqtt::Connection::take_session`] gave; `undelivered` what was meant for it and did not reach it.
    pub fn leave(
        &mut self,
        now: MonoMs,
        place: Place,
        mut state: SessionState,
        undelivered: Vec<Forward>,
        departure: Departure,
    ) {
        let Some(client) = self.places.remove(&place) else { return };
        let Some(session) = self.sessions.get_mut(&client) else { return };
        session.link = None;
        if let Some(expiry_s) = departure.session_expiry_s {
            session.expiry_s = expiry_s.min(SESSION_EXPIRY_MAX_S);
        }
        let mut back = state.suspend();
        back.extend(undelivered);
        back.extend(take_forwards(&mut self.effects, place));
        session.parked = state;
        let (count, bytes) = (session.queue.len(), session.queue.bytes());
        session.queue.give_back(back);
        let offline = session.queue.drop_unnumbered();
        self.queued = self.queued - count + session.queue.len();
        self.queued_bytes = self.queued_bytes - bytes + session.queue.bytes();
        let will = session.will.take().filter(|_| departure.with_will);
        let expiry_s = session.expiry_s;
        self.dropped(DropReason::Offline, offline);
        if let Some(will) = will {
            self.bequeath(now, client, will);
        }
        if expiry_s == 0 {
            self.end_session(now, client);
        } else {
            self.keep_offline(now, client, expiry_s);
        }
        self.admit_next(now, client);
    }

    /// The will of `client` is stored: it may be delivered now.
    pub fn will_stored(&mut self, now: MonoMs, client: ClientNo, message: &Arc<Message>) {
        self.counters.wills += 1;
        self.publish(now, message);
        self.will_refused(now, client);
    }

    /// The will of `client` was refused, and so is not delivered. Its place is free all the same.
    pub fn will_refused(&mut self, now: MonoMs, client: ClientNo) {
        if let Some(session) = self.sessions.get_mut(&client) {
            session.wills_under_way = session.wills_under_way.saturating_sub(1);
        }
        self.admit_next(now, client);
    }

    pub(super) fn publish_delayed_will(&mut self, now: MonoMs, client: ClientNo) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if let Some((at, will)) = session.delayed.take() {
            self.wills.remove(&(at, client));
            self.store_will(now, client, &will);
        }
    }

    /// Forgets everything that a session is, and publishes the will that waited for its end [MQTT-3.1.3-9].
    pub(super) fn end_session(&mut self, now: MonoMs, client: ClientNo) {
        self.publish_delayed_will(now, client);
        let Some(session) = self.sessions.get_mut(&client) else { return };
        session.kept = false;
        if let Some(at) = session.expires_at.take() {
            self.expiries.remove(&(at, client));
        }
        for filter in std::mem::take(&mut session.filters) {
            self.tree.remove(client, &filter);
        }
        session.parked = SessionState::default();
        let queue = std::mem::take(&mut session.queue);
        self.queued -= queue.len();
        self.queued_bytes -= queue.bytes();
        self.dropped(DropReason::Ended, queue.len());
        self.remove_if_unused(client);
    }

    /// Lets the waiting connection in if nothing holds its place.
    fn admit_next(&mut self, now: MonoMs, client: ClientNo) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        if !session.is_free() {
            return;
        }
        let Some((place, entry)) = session.next.take() else {
            return self.remove_if_unused(client);
        };
        if entry.clean_start {
            // It ends the earlier session, whose will may be published by that; then it waits for the will.
            session.next = Some((place, entry));
            self.end_session(now, client);
            let Some(session) = self.sessions.get_mut(&client) else { return };
            if session.is_free()
                && let Some((place, entry)) = session.next.take()
            {
                self.admit(client, place, entry);
            }
        } else {
            if let Some((at, _)) = session.delayed.take() {
                // The client is back in time (v5 3.1.3.2.2).
                self.wills.remove(&(at, client));
            }
            self.admit(client, place, entry);
        }
    }

    fn admit(&mut self, client: ClientNo, place: Place, entry: Entry) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let present = std::mem::replace(&mut session.kept, true);
        if let Some(at) = session.expires_at.take() {
            self.expiries.remove(&(at, client));
        }
        session.link = Some(Link::new(place));
        session.will = entry.will;
        session.expiry_s = entry.session_expiry_s.min(SESSION_EXPIRY_MAX_S);
        let grant = SessionGrant {
            present,
            expiry_s: session.expiry_s,
            state: std::mem::take(&mut session.parked),
        };
        self.places.insert(place, client);
        self.effects.push_back(Effect::Admit { place, grant });
        self.feed(client);
    }

    /// Publishes a will, or sees to it that it is published later. If the session ends before, that publishes it (v5
    /// 3.1.3.2.2).
    fn bequeath(&mut self, now: MonoMs, client: ClientNo, will: Box<Will>) {
        if will.delay_s == 0 {
            return self.store_will(now, client, &will);
        }
        let at = now + u64::from(will.delay_s) * 1_000;
        if let Some(session) = self.sessions.get_mut(&client) {
            session.delayed = Some((at, will));
            self.wills.insert((at, client));
        }
    }

    fn store_will(&mut self, now: MonoMs, client: ClientNo, will: &Will) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        session.wills_under_way += 1;
        let client_id = Arc::clone(&session.client_id);
        let message = Arc::new(will.message(&client_id, now));
        self.effects.push_back(Effect::StoreWill { client, client_id, message });
    }

    fn keep_offline(&mut self, now: MonoMs, client: ClientNo, expiry_s: u32) {
        let Some(session) = self.sessions.get_mut(&client) else { return };
        let at = now + u64::from(expiry_s) * 1_000;
        session.expires_at = Some(at);
        self.expiries.insert((at, client));
        if self.expiries.len() > OFFLINE_SESSIONS_MAX
            && let Some(&(_, first)) = self.expiries.first()
        {
            self.counters.sessions_discarded += 1;
            self.end_session(now, first);
        }
    }

    fn client(&mut self, client_id: &Arc<str>) -> ClientNo {
        if let Some(client) = self.clients.get(client_id) {
            return *client;
        }
        self.last_client += 1;
        let client = ClientNo(self.last_client);
        self.clients.insert(Arc::clone(client_id), client);
        self.sessions.insert(client, Session::new(Arc::clone(client_id)));
        client
    }

    fn remove_if_unused(&mut self, client: ClientNo) {
        let unused = self.sessions.get(&client).is_some_and(|session| {
            session.is_free()
                && !session.kept
                && session.next.is_none()
                && session.delayed.is_none()
        });
        if unused && let Some(session) = self.sessions.remove(&client) {
            self.clients.remove(&session.client_id);
        }
    }
}

/// Takes out what is on its way to a connection and was not polled.
fn take_forwards(effects: &mut VecDeque<Effect>, place: Place) -> Vec<Forward> {
    let mut taken = Vec::new();
    for effect in std::mem::take(effects) {
        match effect {
            Effect::Forward { place: to, forward } if to == place => taken.push(forward),
            other => effects.push_back(other),
        }
    }
    taken
}
