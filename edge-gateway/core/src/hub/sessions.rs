//! What the hub knows of one client (v5 4.1).

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use wire::time::MonoMs;

use super::limits::{QUEUE_BYTES_MAX, QUEUE_MAX, WINDOW_BYTES_MAX, WINDOW_MAX};
use crate::mqtt::{Credit, DropReason, Filter, Forward, Qos, SessionState, Will};

/// Names a session while it lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientNo(pub(super) u64);

/// Names a connection to whoever opened it; the hub only hands it back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place(pub u64);

/// What a client that wants to come in says.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its identifier.
    pub client_id: Arc<str>,
    /// Whether an earlier session is to be forgotten.
    pub clean_start: bool,
    /// How long it wants its session to be kept, in seconds.
    pub session_expiry_s: u32,
    /// What is to be published when it is gone.
    pub will: Option<Box<Will>>,
}

/// One client's session.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) client_id: Arc<str>,
    /// Whether there is a session to come back to. Without it this is only the place where a connection waits.
    pub(super) kept: bool,
    /// Its connection.
    pub(super) link: Option<Link>,
    /// Who comes in as soon as nothing holds the place any more.
    pub(super) next: Option<(Place, Entry)>,
    /// What the present connection wants published when it is lost.
    pub(super) will: Option<Box<Will>>,
    /// A will that is to be published if the client does not come back by then.
    pub(super) delayed: Option<(MonoMs, Box<Will>)>,
    /// Wills on their way through the store.
    pub(super) wills_under_way: usize,
    pub(super) expiry_s: u32,
    /// When the session ends if the client does not come back.
    pub(super) expires_at: Option<MonoMs>,
    pub(super) filters: BTreeSet<Filter>,
    /// What its connection gave back.
    pub(super) parked: SessionState,
    pub(super) queue: Queue,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) place: Place,
    /// Whether it was asked to go.
    pub(super) evicted: bool,
    /// What it has and did not send.
    window: Credit,
}

impl Session {
    pub(super) fn new(client_id: Arc<str>) -> Self {
        Self {
            client_id,
            kept: false,
            link: None,
            next: None,
            will: None,
            delayed: None,
            wills_under_way: 0,
            expiry_s: 0,
            expires_at: None,
            filters: BTreeSet::new(),
            parked: SessionState::default(),
            queue: Queue::default(),
        }
    }

    /// Whether another connection may come in: the last one is off, and so is its will. A client's next words must not
    /// be overtaken by its last ones.
    pub(super) fn is_free(&self) -> bool {
        self.link.is_none() && self.wills_under_way == 0
    }

    /// Whether a message would not have to wait.
    pub(super) fn takes_at_once(&self) -> bool {
        self.queue.len() == 0 && self.link.as_ref().is_some_and(Link::has_window)
    }

    /// The next message for its connection, if that takes one.
    pub(super) fn take_next(&mut self) -> Option<(Place, Forward)> {
        let link = self.link.as_mut().filter(|link| link.has_window())?;
        let forward = self.queue.pop()?;
        link.took(&forward);
        Some((link.place, forward))
    }
}

impl Link {
    pub(super) fn new(place: Place) -> Self {
        Self { place, evicted: false, window: Credit::default() }
    }

    pub(super) fn give(&mut self, credit: Credit) {
        self.window.count = self.window.count.saturating_sub(credit.count);
        self.window.bytes = self.window.bytes.saturating_sub(credit.bytes);
    }

    fn has_window(&self) -> bool {
        self.window.count < WINDOW_MAX && self.window.bytes < WINDOW_BYTES_MAX
    }

    fn took(&mut self, forward: &Forward) {
        self.window.count += 1;
        self.window.bytes += forward.memory_bytes();
    }
}

/// Messages that wait for a client. When it is full the newest is dropped: what is there stays whole and in order.
#[derive(Debug, Default)]
pub(super) struct Queue {
    messages: VecDeque<Forward>,
    bytes: usize,
}

impl Queue {
    pub(super) fn push(&mut self, forward: Forward) -> Result<(), DropReason> {
        let bytes = self.bytes + forward.memory_bytes();
        if self.messages.len() >= QUEUE_MAX || bytes > QUEUE_BYTES_MAX {
            return Err(DropReason::Full);
        }
        self.bytes = bytes;
        self.messages.push_back(forward);
        Ok(())
    }

    /// Takes back what a connection did not send, before everything else.
    pub(super) fn give_back(&mut self, forwards: Vec<Forward>) {
        for forward in forwards.into_iter().rev() {
            self.bytes += forward.memory_bytes();
            self.messages.push_front(forward);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Forward> {
        let forward = self.messages.pop_front()?;
        self.bytes -= forward.memory_bytes();
        Some(forward)
    }

    /// Takes out what is not kept for a client that is away; says how many.
    pub(super) fn drop_unnumbered(&mut self) -> usize {
        let before = self.messages.len();
        self.messages.retain(|forward| forward.qos > Qos::AtMostOnce);
        self.bytes = self.messages.iter().map(Forward::memory_bytes).sum();
        before - self.messages.len()
    }

    pub(super) fn len(&self) -> usize {
        self.messages.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}
