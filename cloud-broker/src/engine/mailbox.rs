//! The way to the engine: two bounded mailboxes, one for what only reads, one for what appends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use broker_core::{Answer, ClientId, Event, KeyedTopics, SessionId};
use tokio::sync::{mpsc, oneshot, watch};

use crate::memory::Held;

/// Messages that wait in a mailbox; what they hold is bounded by the memory for requests.
const MAILBOX_LEN: usize = 1024;

/// The engine can no longer be reached: the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the engine has ended")]
pub(crate) struct EngineGone;

/// The way to the engine; clones lead to the same one. The engine ends when the last is dropped.
#[derive(Debug, Clone)]
pub(crate) struct EngineHandle {
    appends: mpsc::Sender<Message>,
    requests: mpsc::Sender<Message>,
    keyed: watch::Receiver<Arc<KeyedTopics>>,
    next_id: Arc<AtomicU64>,
}

/// A client as its connection holds it. Dropped, it is forgotten by the engine.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    /// Tokens and answers.
    pub(crate) answers: mpsc::Receiver<(u64, Answer)>,
    _leaving: Leaving,
}

/// Tells the engine when it is dropped, also by a task that is aborted: what the engine keeps for somebody must not
/// outlive them. The word comes after everything that they have sent through the requests' mailbox.
#[derive(Debug)]
pub(crate) struct Leaving {
    requests: mpsc::Sender<Message>,
    last_word: Option<Message>,
}

/// What comes through a mailbox.
#[derive(Debug)]
pub(super) enum Message {
    Close(ClientId),
    Event(Event, Held),
    Open { client: ClientId, answers: mpsc::Sender<(u64, Answer)>, done: oneshot::Sender<()> },
}
/// Both mailboxes, as the engine holds them.
pub(crate) struct Mailboxes {
    pub(super) appends: mpsc::Receiver<Message>,
    pub(super) requests: mpsc::Receiver<Message>,
    keyed: watch::Sender<Arc<KeyedTopics>>,
}

/// Makes the way to an engine that is still to be started.
pub(crate) fn mailboxes() -> (EngineHandle, Mailboxes) {
    let (appends, appends_out) = mpsc::channel(MAILBOX_LEN);
    let (requests, requests_out) = mpsc::channel(MAILBOX_LEN);
    let (keyed, keyed_out) = watch::channel(Arc::new(KeyedTopics::default()));
    let next_id = Arc::new(AtomicU64::new(1));
    let handle = EngineHandle { appends, requests, keyed: keyed_out, next_id };
    let mailboxes = Mailboxes { appends: appends_out, requests: requests_out, keyed };
    (handle, mailboxes)
}

impl Mailboxes {
    /// Whether nothing waits to be taken.
    pub(super) fn are_empty(&self) -> bool {
        self.requests.is_empty() && self.appends.is_empty()
    }

    /// Shows to connections which topics need keys, if that is news.
    pub(super) fn show_keyed(&self, keyed: &Arc<KeyedTopics>) {
        self.keyed.send_if_modified(|shown| {
            let is_news = !Arc::ptr_eq(shown, keyed);
            if is_news {
                *shown = Arc::clone(keyed);
            }
            is_news
        });
    }
}

impl EngineHandle {
    /// Makes a client known that will have at most `unanswered_max` requests unanswered.
    pub(crate) async fn open(&self, unanswered_max: usize) -> Result<Client, EngineGone> {
        let id = ClientId(self.next_id.fetch_add(1, Ordering::Relaxed));
        // First, so that a client whose opening is cut off leaves too.
        let leaving = self.leaving(Message::Close(id));
        let (answers, received) = mpsc::channel(unanswered_max);
        let (done, known) = oneshot::channel();
        let message = Message::Open { client: id, answers, done };
        self.requests.send(message).await.map_err(|_| EngineGone)?;
        known.await.map_err(|_| EngineGone)?;
        Ok(Client { id, answers: received, _leaving: leaving })
    }

    /// Which topics need keys.
    pub(crate) fn keyed_topics(&self) -> Arc<KeyedTopics> {
        Arc::clone(&self.keyed.borrow())
    }

    /// An id for an uplink session. The engine forgets the session when what comes with the id is dropped.
    pub(crate) fn open_session(&self) -> (SessionId, Leaving) {
        let id = SessionId(self.next_id.fetch_add(1, Ordering::Relaxed));
        (id, self.leaving(Message::Event(Event::SessionGone(id), Held::default())))
    }

    fn leaving(&self, last_word: Message) -> Leaving {
        Leaving { requests: self.requests.clone(), last_word: Some(last_word) }
    }

    /// The client is gone: said sooner than by dropping it.
    pub(crate) async fn close(&self, client: ClientId) {
        // An engine that has ended has forgotten it already.
        let _ = self.requests.send(Message::Close(client)).await;
    }

    /// Sends something that appends nothing.
    pub(crate) async fn request(&self, event: Event, held: Held) -> Result<(), EngineGone> {
        let message = Message::Event(event, held);
        self.requests.send(message).await.map_err(|_| EngineGone)
    }

    /// Sends something that appends; waits while the log has too much to write.
    pub(crate) async fn append(&self, event: Event, held: Held) -> Result<(), EngineGone> {
        let message = Message::Event(event, held);
        self.appends.send(message).await.map_err(|_| EngineGone)
    }
}

impl Drop for Leaving {
    fn drop(&mut self) {
        let Some(last_word) = self.last_word.take() else {
            return;
        };
        // An engine that has ended has forgotten everybody already, and a runtime that has ended has no engine.
        if let Err(mpsc::error::TrySendError::Full(last_word)) = self.requests.try_send(last_word)
            && let Ok(runtime) = tokio::runtime::Handle::try_current()
        {
            let requests = self.requests.clone();
            runtime.spawn(async move {
                let _ = requests.send(last_word).await;
            });
        }
    }
}
#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_is_dropped_leaves() {
        let (handle, mut mailboxes) = mailboxes();
        let opening = handle.open(1);
        let known = async {
            let Some(Message::Open { client, done, .. }) = mailboxes.requests.recv().await else {
                panic!("nobody opened");
            };
            done.send(()).unwrap();
            client
        };
        let (client, id) = tokio::join!(opening, known);
        drop(client.unwrap());
        assert!(
            matches!(mailboxes.requests.try_recv(), Ok(Message::Close(closed)) if closed == id)
        );
        let (session, leaving) = handle.open_session();
        drop(leaving);
        assert!(matches!(
            mailboxes.requests.try_recv(),
            Ok(Message::Event(Event::SessionGone(gone), _)) if gone == session
        ));
    }

    #[tokio::test]
    async fn a_full_mailbox_and_an_opening_that_is_cut_off_leave_nobody_behind() {
        let (handle, mut mailboxes) = mailboxes();
        let mut openings: Vec<_> = (0..MAILBOX_LEN + 3).map(|_| Box::pin(handle.open(1))).collect();
        for opening in &mut openings {
            let opened = tokio::time::timeout(std::time::Duration::ZERO, opening.as_mut()).await;
            assert!(opened.is_err(), "nobody confirms it");
        }
        assert!(handle.requests.try_send(Message::Close(ClientId(0))).is_err(), "it is full");
        drop(openings);
        let mut there = std::collections::BTreeSet::new();
        let mut closed = 0;
        while closed < MAILBOX_LEN + 3 {
            // What did not fit comes as there is room.
            match mailboxes.requests.recv().await {
                Some(Message::Open { client, .. }) => assert!(there.insert(client.0)),
                Some(Message::Close(client)) => {
                    there.remove(&client.0);
                    closed += 1;
                }
                other => panic!("neither opened nor closed: {other:?}"),
            }
        }
        assert!(there.is_empty(), "{there:?} were never closed");
    }
}
