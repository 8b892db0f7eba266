//! What a session keeps of the protocol across its connections (v5 4.1). Its subscriptions and its queue are the hub's.

use std::collections::BTreeSet;
use std::num::NonZeroU16;

use super::message::Forward;
use super::outbound::Outbound;

/// The state of a session, in the hands of its connection while there is one.
#[derive(Debug, Default)]
pub struct SessionState {
    /// Packet identifiers of QoS 2 publishes that are durable and not released yet: one that comes again is a copy.
    pub(super) received: BTreeSet<NonZeroU16>,
    pub(super) outbound: Outbound,
}

impl SessionState {
    /// The connection is over: gives back what it has not sent, in order.
    pub(crate) fn suspend(&mut self) -> Vec<Forward> {
        self.outbound.suspend()
    }

    /// Publishes to the client whose acknowledgement is missing.
    #[must_use]
    pub fn unacknowledged(&self) -> usize {
        self.outbound.unacknowledged()
    }
}

/// What the hub lets a client in with.
#[derive(Debug, Default)]
pub struct SessionGrant {
    /// Whether there was a session to come back to.
    pub present: bool,
    /// How long the session is kept after a disconnect, in seconds.
    pub expiry_s: u32,
    /// Its state.
    pub state: SessionState,
}

/// How a connection ended, as far as its session cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Departure {
    /// Whether its will is to be published (v5 3.1.2.5).
    pub with_will: bool,
    /// The session expiry interval of the DISCONNECT, if it had one.
    pub session_expiry_s: Option<u32>,
}

impl Departure {
    /// A network connection that was lost.
    pub const LOST: Self = Self { with_will: true, session_expiry_s: None };
}
