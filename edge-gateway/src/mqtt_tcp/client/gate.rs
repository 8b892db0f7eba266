//! What a client published goes to the store, and only what the store has committed goes further: acknowledgements to the
//! client, messages to the hub.

use std::sync::Arc;

use bytes::Bytes;
use gateway_core::gateway::{Arrival, ClientBatch, ClientToken, Rejection};
use gateway_core::mqtt::{Departure, Message, Publish, RejectReason};
use metrics::counter;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::Instant;
use wire::time::MonoMs;

use super::{Client, Outstanding};
use crate::hub_task::{Mail, Request};
use crate::metrics as names;
use crate::mqtt_tcp::{arrival, staged_bytes, staged_units};
use crate::store_thread::Answer;

impl Client {
    /// Gives everything parsed to the store thread as one batch.
    pub(super) async fn hand_over(&mut self, room: OwnedSemaphorePermit) {
        let publishes = std::mem::take(&mut self.publishes);
        let device = self.client.clone().unwrap_or_else(|| "".into());
        let messages = self.messages(&publishes, &device);
        let queues_seen = self.queues_seen;
        let arrivals: Vec<_> = publishes.into_iter().map(arrival).collect();
        for queue in arrivals.iter().filter_map(Arrival::queue) {
            self.queues_seen.note(queue);
        }
        let batch = ClientBatch {
            token: ClientToken(0),
            device: Bytes::copy_from_slice(device.as_bytes()),
            queues_seen,
            arrivals,
        };
        // A closed store drops the answer's sender as well, which `wait` reports.
        let answer = match self.edge.store.publish(batch).await {
            Ok(answer) => answer,
            Err(_closed) => oneshot::channel().1,
        };
        let since = Instant::now();
        self.outstanding = Some(Outstanding { answer, messages, since, _room: room });
    }

    /// What the hub is to hear of once it is committed. Without subscribers that is next to nothing, and costs nothing.
    fn messages(&self, publishes: &[Publish], client: &Arc<str>) -> Vec<(usize, Arc<Message>)> {
        let now = self.edge.clock.mono();
        let listening = self.edge.hub.is_listening();
        (publishes.iter().enumerate())
            .filter(|(_, publish)| listening || publish.retain)
            .map(|(at, publish)| (at, Arc::new(Message::new(publish, client, now))))
            .collect()
    }

    pub(super) fn answered(&mut self, now: MonoMs, (stored, rejected): Answer) {
        let Some(outstanding) = self.outstanding.take() else {
            return;
        };
        names::record_commit(outstanding.since.elapsed().as_secs_f64());
        self.machine.committed(now, stored);
        let committed = outstanding.messages.into_iter().filter(|(at, _)| *at < stored);
        let committed: Vec<_> = committed.map(|(_, message)| message).collect();
        if !committed.is_empty() {
            self.to_hub.push_back(Request::Publish(committed));
        }
        let Some(rejection) = rejected else { return };
        // Nothing behind a refused publish may be stored, or it would be taken in its place.
        self.publishes.clear();
        let (label, reason) = match rejection {
            Rejection::Batch(fault) => ("batch", RejectReason::Batch(fault)),
            Rejection::Full => ("full", RejectReason::Full),
            Rejection::NotAuthorized => ("not-authorized", RejectReason::NotAuthorized),
            Rejection::OutOfOrder { expected, first } => {
                ("sequence", RejectReason::DeviceSequence { expected, first })
            }
        };
        counter!(names::PUBLISHES_REFUSED, "reason" => label).increment(1);
        self.machine.rejected(reason);
    }

    /// The client is gone. What the store thread has is awaited, so that the next connection of this client finds it
    /// stored; what it does not have is stored as well: it came whole. Then the hub hears of it.
    pub(super) async fn settle(&mut self) {
        loop {
            if let Some(outstanding) = &mut self.outstanding {
                let Ok(answer) = (&mut outstanding.answer).await else { return };
                self.answered(self.edge.clock.mono(), answer);
            }
            for request in std::mem::take(&mut self.to_hub) {
                // Closed, the process is ending.
                let _ = self.edge.hub.requests().send(request).await;
            }
            if self.publishes.is_empty() {
                return;
            }
            let room = Arc::clone(&self.staged);
            let wanted = staged_units(staged_bytes(&self.publishes));
            let Ok(room) = room.acquire_many_owned(wanted).await else { return };
            self.hand_over(room).await;
        }
    }

    /// Gives the place back, so that another connection of this client may come in.
    pub(super) async fn leave(&mut self) {
        let Some(mut mailbox) = self.mailbox.take() else { return };
        let mut departure = self.machine.departure();
        let mut state = self.machine.take_session();
        if self.ticket.is_none() {
            // The place may have been given at the very moment. The client knows nothing of it, so it leaves no will.
            mailbox.close();
            if let Ok(Mail::Admitted(ticket, grant)) = mailbox.try_recv() {
                departure = Departure { with_will: false, session_expiry_s: None };
                state = grant.state;
                self.ticket = Some(ticket);
            }
        }
        if let Some(ticket) = self.ticket.take() {
            ticket.leave(&self.edge.hub, state, mailbox, departure).await;
        }
    }
}
