//! Everything that can happen in a run. What belongs to one life of a host carries that life, so that a host which was
//! started anew does not see it.

use bytes::Bytes;
use wire::ids::{Lane, SpoolId};

use crate::fault::Fault;

/// A life of a host, from 1.
pub(crate) type Life = u32;

/// A connection between device and gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct LinkNo(pub(crate) u64);

/// An uplink session, or an attempt at one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SessionNo(pub(crate) u64);

#[derive(Debug)]
pub(crate) enum Event {
    Broker(Life, BrokerStep),
    Device(usize, DeviceStep),
    Fault(Fault),
    /// A frame arrives at its gateway.
    FrameDown {
        session: SessionNo,
        lane: Lane,
        number: u64,
        frame: Bytes,
    },
    /// A frame arrives at the broker.
    FrameUp {
        session: SessionNo,
        lane: Lane,
        number: u64,
        frame: Bytes,
    },
    Gateway(usize, Life, GatewayStep),
    /// An answer of some connection, however old, arrives at a gateway.
    LateAnswer {
        answer: LateAnswer,
        frame: Bytes,
    },
    /// A message arrives at its device.
    LinkDown {
        link: LinkNo,
        number: u64,
        message: Down,
    },
    /// A message arrives at its gateway.
    LinkUp {
        link: LinkNo,
        number: u64,
        message: Up,
    },
}

/// A frame from the broker, by its place in its session's stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct FrameNo {
    pub(crate) session: SessionNo,
    pub(crate) lane: Lane,
    pub(crate) number: u64,
}

/// Where an answer goes that comes by another way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LateAnswer {
    pub(crate) gateway: usize,
    pub(crate) spool: SpoolId,
    /// The answer of the open session that it comes in the place of; `None` if it comes once more.
    pub(crate) overtakes: Option<FrameNo>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum BrokerStep {
    ControlStored,
    /// The log's oldest job that has ended is given back.
    JobDone,
    /// The log's oldest job that waits runs.
    RunJob,
    SessionGone(SessionNo),
    Start,
    Sync,
    /// Deadlines are looked at.
    Tick,
    Write,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum DeviceStep {
    Connect,
    /// It notices that its connection is dead.
    LinkLost(LinkNo),
    /// Its open batch is old enough.
    Poll,
    Sample,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum GatewayStep {
    Commit,
    Dial,
    HandshakeOver(SessionNo),
    /// It notices that a device's connection is dead.
    LinkLost(LinkNo),
    /// It notices that its session is dead.
    SessionLost(SessionNo),
    Start,
    Wake,
}

/// From device to gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Up {
    Connect,
    Publish(Publish),
}

/// From gateway to device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Down {
    /// The gateway has closed the connection.
    Closed,
    /// The gateway has refused the oldest publish on its way for now, and closed the connection.
    Refused,
    /// CONNACK and the retained message with the spool's id.
    Connack(SpoolId),
    /// So many publishes are acknowledged, in their order.
    Puback(usize),
}

/// Numbered readings on their way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    pub(crate) queue: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
    pub(crate) lost_before: u64,
    pub(crate) maybe_dup: bool,
    /// The payload of a device that sends batches; any other sends one reading as it is.
    pub(crate) batch: Option<Bytes>,
}
