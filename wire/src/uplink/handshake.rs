//! The first two frames of a session.

use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use super::state::{StreamKey, StreamState};
use crate::ids::{Incarnation, SpoolId, TopicId};
use crate::time::UnixMs;

/// How durable an acknowledgement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Profile {
    /// Synced on one broker's disk: losing that disk loses acknowledged data.
    Single,
    /// The object store confirmed the write.
    Bucket,
}

/// First frame, gateway to broker.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello<'a> {
    /// Lowest protocol version that the gateway speaks.
    pub version_min: u16,
    /// Highest protocol version that the gateway speaks.
    pub version_max: u16,
    /// The gateway's id; its certificate must say the same.
    #[serde(borrow)]
    pub gateway: &'a str,
    /// The spool that speaks.
    pub spool: SpoolId,
    /// The topics of its routes; the broker makes missing ones.
    #[serde(borrow)]
    pub topics: Vec<&'a str>,
    /// The streams it has a window or a state for: WELCOME hints where they stand.
    pub streams: Vec<StreamKey>,
}

/// A topic as the session will name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicInfo<'a> {
    /// Name, as in HELLO.
    #[serde(borrow)]
    pub name: &'a str,
    /// Its id.
    pub id: TopicId,
    /// Its partitions.
    pub partitions: u32,
}

/// Answer to HELLO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome<'a> {
    /// The version that both will speak.
    pub version: u16,
    /// The broker's life: another one means that it was started anew.
    pub broker: Incarnation,
    /// The broker's wall time.
    pub time: UnixMs,
    /// What an acknowledgement promises.
    pub profile: Profile,
    /// Unacknowledged frames that a session may have in flight.
    pub frames_in_flight: u32,
    /// Unacknowledged bytes that a session may have in flight.
    pub bytes_in_flight: u32,
    /// Shards of the log; a stream's shard is `partition::shard_of`.
    pub shards: u32,
    /// The topics that HELLO named, in its order.
    #[serde(borrow)]
    pub topics: Vec<TopicInfo<'a>>,
    /// Where the named streams stand, durably. Only good for trimming early.
    pub states: Vec<(StreamKey, StreamState)>,
}
