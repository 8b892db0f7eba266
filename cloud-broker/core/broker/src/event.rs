//! What goes into the broker and what comes out of it.

use wire::ids::GatewayId;

use crate::groups::{GroupsChunk, GroupsRead};
use crate::handlers::{AdminAnswer, FetchAnswer, KafkaRequest, LookupAnswer, ProduceAnswer};
use crate::ingest::{UplinkAnswer, UplinkRequest};
use crate::metadata::ControlWrite;

/// One stream of answers: a Kafka connection, or one stream of an uplink session. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub u64);

/// An uplink session: one QUIC connection. Never used twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Whom to answer: a client, and the request of its that is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asker {
    /// The client.
    pub client: ClientId,
    /// Chosen by the shell; it names one unanswered request of the client.
    pub token: u64,
}

impl Asker {
    pub(crate) const MIN: Self = Self { client: ClientId(0), token: 0 };
    pub(crate) const MAX: Self = Self { client: ClientId(u64::MAX), token: u64::MAX };
}

/// Something happened.
#[derive(Debug)]
pub enum Event {
    /// A client is gone: what it waits for is dropped.
    ClientGone(ClientId),
    /// The write of [`Effect::StoreControl`] is stored under this version.
    ControlStored(u64),
    /// The write of [`Effect::StoreControl`] was not made, and nothing is changed.
    ControlNotStored,
    /// What [`Effect::ReadGroups`] has found.
    GroupsRead(GroupsChunk),
    /// A Kafka request. It gets exactly one [`Effect::Answer`], unless its client goes first.
    Kafka(Asker, KafkaRequest),
    /// An uplink session is gone.
    SessionGone(SessionId),
    /// An uplink frame. It gets exactly one [`Effect::Answer`], unless its client goes first.
    Uplink {
        /// Whom to answer.
        asker: Asker,
        /// The session that it came in.
        session: SessionId,
        /// What the session's certificate says.
        identity: GatewayId,
        /// The frame.
        request: UplinkRequest,
    },
}

/// Something is to be done.
#[derive(Debug)]
pub enum Effect {
    /// Answer a request.
    Answer(Asker, Answer),
    /// Read this of `__consumer_offsets` ([`GroupsRead::run`]) and answer with [`Event::GroupsRead`]. There is one at a
    /// time.
    ReadGroups(GroupsRead),
    /// Compare and swap `ctl/cluster`; answer with [`Event::ControlStored`] or [`Event::ControlNotStored`]. There is one
    /// at a time.
    StoreControl(ControlWrite),
}

/// The answer to a request.
#[derive(Debug)]
pub enum Answer {
    /// To a request of an administrative API. The connection makes the response.
    Admin(Box<AdminAnswer>),
    /// To a fetch: where the records lie. The connection reads and encodes them.
    Fetch(FetchAnswer),
    /// To a request of the group APIs: the response.
    Group(Box<broker_kafka::Response>),
    /// To ListOffsets: perhaps with runs that the connection has to look into.
    Lookup(LookupAnswer),
    /// To Metadata: the response.
    Metadata(Box<broker_kafka::generated::metadata::MetadataResponse>),
    /// To a produce request.
    Produce(ProduceAnswer),
    /// To an uplink frame.
    Uplink(UplinkAnswer),
}
