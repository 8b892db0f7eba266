//! The task that owns the hub ([`gateway_core::hub::Hub`]): who is connected under which client id, who subscribed to
//! what, what is retained.
//!
//! Connections send requests through a bounded queue and read a mailbox each. A mailbox is unbounded as a channel, but
//! not in what it holds: the hub gives a connection no more than it has room for, and a connection asks one question at a
//! time. So the hub never waits for a connection.
//!
//! A client id belongs to one connection. When another one asks for it, the old one is told to go, and the new one is
//! let in only when the old one is off: what it had published is committed or discarded by then (rule D3), its will
//! included.

use std::collections::BTreeMap;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use gateway_core::dedupe::QueuesSeen;
use gateway_core::gateway::{Arrival, ClientBatch, ClientToken};
use gateway_core::hub::{ClientNo, Effect, Entry, Hub, HubCounters, Place};
use gateway_core::mqtt::{
    Credit, Departure, Forward, Message, SessionGrant, SessionState, SubscribeOutcome,
    SubscribeRequest, Text, UnsubscribeOutcome, UnsubscribeRequest,
};
use process::{Clock, ShutdownTrigger};
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use wire::time::MonoMs;

use crate::store_thread::StoreHandle;

/// Requests that may wait for the task.
const QUEUE_MAX: usize = 1024;

/// Requests handled between two looks at the other things that may have happened.
const REQUESTS_AT_ONCE: usize = 256;

/// Wills on their way through the store at which no more requests are taken. Connections hear of it only while the store
/// is behind, and then they wait for that anyway. Raising it costs a CONNECT packet of memory each.
const WILLS_UNDER_WAY_MAX: usize = 1024;

/// A connection's message to the hub.
#[derive(Debug)]
pub enum Request {
    /// Some of what it was given is sent.
    Credit(Place, Credit),
    /// It wants to come in.
    Enter(Entry, mpsc::UnboundedSender<Mail>),
    /// It is over.
    Leave(Place, SessionState, Mailbox, Departure),
    /// These publishes are committed.
    Publish(Vec<Arc<Message>>),
    /// It subscribes.
    Subscribe(Place, SubscribeRequest),
    /// It ends subscriptions.
    Unsubscribe(Place, UnsubscribeRequest),
}

/// What the hub tells a connection.
#[derive(Debug)]
pub enum Mail {
    /// It is let in. What comes with it is to be given back.
    Admitted(Ticket, SessionGrant),
    /// Another connection asks for its client id.
    Evicted,
    /// For its client.
    Forward(Forward),
    /// The answer to a SUBSCRIBE.
    Subscribed(NonZeroU16, Vec<SubscribeOutcome>),
    /// It is not let in.
    TurnedAway,
    /// The answer to an UNSUBSCRIBE.
    Unsubscribed(NonZeroU16, Vec<UnsubscribeOutcome>),
}

/// Where a connection finds its mail.
pub type Mailbox = mpsc::UnboundedReceiver<Mail>;

/// The way to the hub.
#[derive(Debug, Clone)]
pub struct HubHandle {
    requests: mpsc::Sender<Request>,
    listening: Arc<AtomicBool>,
}

impl HubHandle {
    /// Whether anybody has subscribed to anything. If not, only publishes to be retained need be told.
    #[must_use]
    pub fn is_listening(&self) -> bool {
        self.listening.load(Ordering::Acquire)
    }

    /// The queue of requests. It is closed only when the process ends.
    #[must_use]
    pub fn requests(&self) -> &mpsc::Sender<Request> {
        &self.requests
    }
}

/// The right to be connected under a client id. It is given back by [`Ticket::leave`]; dropped, as a panic does it, it
/// gives the place back and loses what the session had in flight.
#[derive(Debug)]
pub struct Ticket {
    /// Where its holder sits.
    pub place: Place,
    lost: Option<mpsc::UnboundedSender<Place>>,
}

impl Ticket {
    /// Gives the place back, with the session.
    pub async fn leave(
        mut self,
        hub: &HubHandle,
        state: SessionState,
        mailbox: Mailbox,
        departure: Departure,
    ) {
        let request = Request::Leave(self.place, state, mailbox, departure);
        // Closed, the process is ending and nobody waits for the place.
        if hub.requests.send(request).await.is_ok() {
            self.lost = None;
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if let Some(lost) = self.lost.take() {
            // Fails only when the hub is gone, with the process.
            let _ = lost.send(self.place);
        }
    }
}

/// Starts the task on a hub; it ends with the last handle, when every will is stored.
#[must_use]
pub fn spawn(
    hub: Hub,
    clock: Clock,
    store: StoreHandle,
    trigger: &ShutdownTrigger,
) -> (HubHandle, JoinHandle<()>) {
    let (requests, queue) = mpsc::channel(QUEUE_MAX);
    // Unbounded because it is filled from `drop`, and bounded by the tickets there are: one message each.
    let (lost, lost_tickets) = mpsc::unbounded_channel();
    let listening = Arc::new(AtomicBool::new(hub.has_subscribers()));
    let task = HubTask {
        hub,
        clock,
        store,
        lost,
        listening: Arc::clone(&listening),
        mailboxes: BTreeMap::new(),
        strays: BTreeMap::new(),
        last_place: 0,
        wills: JoinSet::new(),
    };
    let joined = trigger.spawn_vital("hub", task.run(queue, lost_tickets));
    (HubHandle { requests, listening }, joined)
}

type StoredWill = (ClientNo, Arc<Message>, bool);

struct HubTask {
    hub: Hub,
    clock: Clock,
    store: StoreHandle,
    lost: mpsc::UnboundedSender<Place>,
    listening: Arc<AtomicBool>,
    mailboxes: BTreeMap<Place, mpsc::UnboundedSender<Mail>>,
    /// For connections that have closed their mailbox and not left yet.
    strays: BTreeMap<Place, Vec<Forward>>,
    last_place: u64,
    wills: JoinSet<StoredWill>,
}

impl HubTask {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Request>,
        mut lost_tickets: mpsc::UnboundedReceiver<Place>,
    ) {
        let mut requests = Vec::with_capacity(REQUESTS_AT_ONCE);
        let mut open = true;
        let mut counted = HubCounters::default();
        crate::metrics::record_hub(&self.hub.status(), &mut counted);
        while open || !self.wills.is_empty() {
            let deadline = self.hub.next_deadline();
            let clock = self.clock;
            let until = async {
                match deadline {
                    Some(at) => tokio::time::sleep_until(clock.instant_at(at)).await,
                    None => std::future::pending().await,
                }
            };
            let takes_requests = open && self.wills.len() < WILLS_UNDER_WAY_MAX;
            tokio::select! {
                biased;
                Some(place) = lost_tickets.recv() => {
                    let now = self.clock.mono();
                    let state = SessionState::default();
                    let undelivered = self.strays.remove(&place).unwrap_or_default();
                    self.hub.leave(now, place, state, undelivered, Departure::LOST);
                    self.mailboxes.remove(&place);
                }
                Some(Ok(will)) = self.wills.join_next() => self.will_done(&will),
                () = until => self.hub.handle_timeout(self.clock.mono()),
                count = queue.recv_many(&mut requests, REQUESTS_AT_ONCE), if takes_requests => {
                    open = count > 0;
                    let now = self.clock.mono();
                    for request in requests.drain(..) {
                        self.handle(now, request);
                        self.perform(now);
                    }
                }
            }
            self.perform(self.clock.mono());
            self.listening.store(self.hub.has_subscribers(), Ordering::Release);
            crate::metrics::record_hub(&self.hub.status(), &mut counted);
        }
    }

    fn handle(&mut self, now: MonoMs, request: Request) {
        match request {
            Request::Credit(place, credit) => self.hub.credit(place, credit),
            Request::Enter(entry, mailbox) => {
                self.last_place += 1;
                let place = Place(self.last_place);
                self.mailboxes.insert(place, mailbox);
                self.hub.enter(now, place, entry);
            }
            Request::Leave(place, state, mut mailbox, departure) => {
                self.mailboxes.remove(&place);
                let mut undelivered = Vec::new();
                while let Ok(mail) = mailbox.try_recv() {
                    if let Mail::Forward(forward) = mail {
                        undelivered.push(forward);
                    }
                }
                undelivered.extend(self.strays.remove(&place).into_iter().flatten());
                self.hub.leave(now, place, state, undelivered, departure);
            }
            Request::Publish(messages) => {
                for message in &messages {
                    self.hub.publish(now, message);
                }
            }
            Request::Subscribe(place, request) => {
                self.hub.subscribe(now, place, request);
                // Before the answer is on its way: what is published after it must come here.
                self.listening.store(self.hub.has_subscribers(), Ordering::Release);
            }
            Request::Unsubscribe(place, request) => self.hub.unsubscribe(place, &request),
        }
    }

    /// Does what the hub asks. A mailbox that is closed belongs to a connection that is about to leave.
    fn perform(&mut self, now: MonoMs) {
        while let Some(effect) = self.hub.poll_effect() {
            let (place, mail) = match effect {
                Effect::Admit { place, grant } => {
                    self.admit(now, place, grant);
                    continue;
                }
                Effect::StoreWill { client, client_id, message } => {
                    self.store_will(client, &client_id, message);
                    continue;
                }
                Effect::Evict { place } => (place, Mail::Evicted),
                Effect::Forward { place, forward } => (place, Mail::Forward(forward)),
                Effect::Subscribed { place, packet_id, outcomes } => {
                    (place, Mail::Subscribed(packet_id, outcomes))
                }
                Effect::TurnAway { place } => (place, Mail::TurnedAway),
                Effect::Unsubscribed { place, packet_id, outcomes } => {
                    (place, Mail::Unsubscribed(packet_id, outcomes))
                }
            };
            let turned_away = matches!(mail, Mail::TurnedAway);
            let Some(mailbox) = self.mailboxes.get(&place) else { continue };
            if let Err(refused) = mailbox.send(mail)
                && let Mail::Forward(forward) = refused.0
            {
                self.strays.entry(place).or_default().push(forward);
            }
            if turned_away {
                self.mailboxes.remove(&place);
            }
        }
    }

    fn admit(&mut self, now: MonoMs, place: Place, grant: SessionGrant) {
        let ticket = Ticket { place, lost: Some(self.lost.clone()) };
        let Some(mailbox) = self.mailboxes.get(&place) else { return };
        let Err(refused) = mailbox.send(Mail::Admitted(ticket, grant)) else { return };
        self.mailboxes.remove(&place);
        if let Mail::Admitted(mut ticket, grant) = refused.0 {
            // It gave up waiting. It was never connected, so it leaves no will.
            ticket.lost = None;
            let departure = Departure { with_will: false, session_expiry_s: None };
            self.hub.leave(now, place, grant.state, Vec::new(), departure);
        }
    }

    /// A will goes through the gate like any publish. Nobody waits for its acknowledgement, so a full spool drops and
    /// counts it.
    fn store_will(&mut self, client: ClientNo, client_id: &Arc<str>, message: Arc<Message>) {
        let batch = ClientBatch {
            token: ClientToken(0),
            device: Bytes::copy_from_slice(client_id.as_bytes()),
            queues_seen: QueuesSeen::default(),
            arrivals: vec![will_arrival(&message)],
        };
        let store = self.store.clone();
        self.wills.spawn(async move {
            let stored = match store.publish(batch).await {
                Ok(answer) => answer.await.is_ok_and(|(_, rejected)| rejected.is_none()),
                Err(_closed) => false,
            };
            (client, message, stored)
        });
    }

    fn will_done(&mut self, (client, message, stored): &StoredWill) {
        let now = self.clock.mono();
        if *stored {
            self.hub.will_stored(now, *client, message);
        } else {
            self.hub.will_refused(now, *client);
        }
    }
}

fn will_arrival(message: &Message) -> Arrival {
    let text = |text: &Text| text.clone().into_bytes();
    let user = message.properties.as_deref().map_or(&[][..], |properties| &properties.user);
    Arrival {
        topic: message.topic.clone().into_bytes(),
        payload: message.payload.clone(),
        properties: user.iter().map(|(name, value)| (text(name), text(value))).collect(),
        sequence: None,
        maybe_dup: false,
        acknowledged: false,
    }
}

#[cfg(test)]
mod tests;
