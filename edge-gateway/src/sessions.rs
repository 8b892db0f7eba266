//! Who is connected under which client id. One task owns the table.
//!
//! A client id belongs to one connection. When another one asks for it, the old one is told to go, and the new one is
//! let in only when the old one is off: what it had published is committed or discarded by then (rule D3).

use std::collections::BTreeMap;
use std::sync::Arc;

use process::ShutdownTrigger;
use tokio::sync::{mpsc, oneshot};

/// Requests that may wait for the table.
const QUEUE_MAX: usize = 256;

#[derive(Debug)]
enum Request {
    Enter { client: Arc<str>, kick: oneshot::Sender<()>, entered: oneshot::Sender<u64> },
    Leave { client: Arc<str>, ticket: u64 },
}

/// The way to the table.
#[derive(Debug, Clone)]
pub struct Sessions {
    requests: mpsc::Sender<Request>,
    leaves: mpsc::UnboundedSender<Request>,
}

/// The right to be connected under a client id; given back when dropped.
#[derive(Debug)]
pub struct Ticket {
    client: Arc<str>,
    number: u64,
    leaves: mpsc::UnboundedSender<Request>,
    /// Resolves when another connection asks for the client id.
    pub kicked: oneshot::Receiver<()>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let client = Arc::clone(&self.client);
        // Fails only when the table is gone, with the process.
        let _ = self.leaves.send(Request::Leave { client, ticket: self.number });
    }
}

impl Sessions {
    /// Starts the table's task; it ends with the last handle.
    #[must_use]
    pub fn start(trigger: &ShutdownTrigger) -> Self {
        let (requests, queue) = mpsc::channel(QUEUE_MAX);
        // Unbounded because it is filled from `drop`, and bounded by the tickets there are: one message each.
        let (leaves, left) = mpsc::unbounded_channel();
        trigger.spawn_vital("sessions", Table::default().run(queue, left));
        Self { requests, leaves }
    }

    /// Waits until the client id is free, asking whoever has it to go. `None` if the process is ending, or if yet another
    /// connection asked for the same client id in the meantime.
    pub async fn enter(&self, client: Arc<str>) -> Option<Ticket> {
        let (kick, kicked) = oneshot::channel();
        let (entered, number) = oneshot::channel();
        let request = Request::Enter { client: Arc::clone(&client), kick, entered };
        self.requests.send(request).await.ok()?;
        let number = number.await.ok()?;
        Some(Ticket { client, number, leaves: self.leaves.clone(), kicked })
    }
}

#[derive(Debug, Default)]
struct Table {
    clients: BTreeMap<Arc<str>, Place>,
    tickets: u64,
}

#[derive(Debug)]
struct Place {
    ticket: u64,
    kick: Option<oneshot::Sender<()>>,
    /// Who enters next. A third connection takes this place from the second, which is closed.
    next: Option<(oneshot::Sender<()>, oneshot::Sender<u64>)>,
}

impl Table {
    async fn run(
        mut self,
        mut queue: mpsc::Receiver<Request>,
        mut left: mpsc::UnboundedReceiver<Request>,
    ) {
        loop {
            let request = tokio::select! {
                biased;
                Some(request) = left.recv() => request,
                request = queue.recv() => match request {
                    Some(request) => request,
                    None => return,
                },
            };
            match request {
                Request::Enter { client, kick, entered } => self.enter(client, kick, entered),
                Request::Leave { client, ticket } => self.leave(client, ticket),
            }
        }
    }

    fn enter(
        &mut self,
        client: Arc<str>,
        kick: oneshot::Sender<()>,
        entered: oneshot::Sender<u64>,
    ) {
        if let Some(place) = self.clients.get_mut(&client) {
            if let Some(kick) = place.kick.take() {
                // It may be leaving by itself.
                let _ = kick.send(());
            }
            place.next = Some((kick, entered));
            return;
        }
        self.tickets += 1;
        let ticket = self.tickets;
        if entered.send(ticket).is_ok() {
            self.clients.insert(client, Place { ticket, kick: Some(kick), next: None });
        }
    }

    fn leave(&mut self, client: Arc<str>, ticket: u64) {
        if self.clients.get(&client).is_none_or(|place| place.ticket != ticket) {
            return;
        }
        if let Some(Place { next: Some((kick, entered)), .. }) = self.clients.remove(&client) {
            self.enter(client, kick, entered);
        }
    }
}

#[cfg(test)]
mod tests {
    use process::Shutdown;

    use super::*;

    #[tokio::test]
    async fn a_second_connection_waits_until_the_first_is_off() {
        let sessions = Sessions::start(&Shutdown::new().0);
        let mut first = sessions.enter("dev1".into()).await.unwrap();
        let other = sessions.enter("dev2".into()).await.unwrap();
        let waiting = tokio::spawn({
            let sessions = sessions.clone();
            async move { sessions.enter("dev1".into()).await }
        });
        (&mut first.kicked).await.unwrap();
        assert!(!waiting.is_finished(), "the first is still there");
        drop(first);
        let second = waiting.await.unwrap().unwrap();
        assert_ne!(second.number, other.number);
    }

    #[tokio::test]
    async fn a_third_connection_takes_the_place_of_the_waiting_one() {
        let sessions = Sessions::start(&Shutdown::new().0);
        let mut first = sessions.enter("dev1".into()).await.unwrap();
        let enter = |sessions: Sessions| async move { sessions.enter("dev1".into()).await };
        let second = tokio::spawn(enter(sessions.clone()));
        (&mut first.kicked).await.unwrap();
        let third = tokio::spawn(enter(sessions.clone()));
        assert!(second.await.unwrap().is_none());
        drop(first);
        assert!(third.await.unwrap().is_some());
    }
}
