//! HELLO and WELCOME.

use std::collections::BTreeSet;

use broker_log::{Log, PartitionKey, TopicNo, UplinkStream};
use wire::ids::{GatewayId, Incarnation, Lane, ProducerId, TopicId};
use wire::limits::{CONTROL_TOPIC, ROUTE_TOPIC_PARTITIONS};
use wire::time::UnixMs;
use wire::uplink::{
    Frame, GoodbyeReason, Profile, StreamKey, StreamState, TopicInfo, VERSION, Welcome,
};

use super::request::HelloRequest;
use super::{SESSION_BYTES_MAX, SESSION_FRAMES_MAX, SHARDS, UplinkAnswer, is_same};
use crate::metadata::Image;

/// Most states in one WELCOME: they are hints, and WELCOME should be no larger than a handshake frame.
const STATES_HINTED_MAX: usize = 512;

/// What a session may do.
#[derive(Debug)]
pub(crate) struct Session {
    pids: [ProducerId; Lane::ALL.len()],
    topics: BTreeSet<TopicId>,
}

impl Session {
    /// Whether the stream is one of this spool's lanes, on a topic that HELLO named.
    pub(crate) fn may_append(&self, stream: StreamKey) -> bool {
        self.pids.contains(&stream.pid) && self.topics.contains(&stream.topic)
    }
}

/// Why HELLO is answered with GOODBYE.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HelloRefused {
    pub(crate) reason: GoodbyeReason,
    pub(crate) detail: String,
}

impl HelloRefused {
    pub(crate) fn answer(&self) -> UplinkAnswer {
        UplinkAnswer::goodbye(self.reason, &self.detail)
    }
}

/// Checks who speaks and what it wants. Returns the topics that must be there, with the partitions that a missing one is
/// made with.
pub(crate) fn check_hello<'a>(
    identity: &GatewayId,
    hello: &'a HelloRequest,
    allowed: &BTreeSet<String>,
) -> Result<Vec<(&'a str, u32)>, HelloRefused> {
    let refused = |reason, detail| Err(HelloRefused { reason, detail });
    if !(hello.version_min..=hello.version_max).contains(&VERSION) {
        let detail = format!("this broker speaks version {VERSION}");
        return refused(GoodbyeReason::Version, detail);
    }
    if !is_same(identity, &hello.gateway) {
        let detail = format!("the certificate names gateway {identity}");
        return refused(GoodbyeReason::Unauthorized, detail);
    }
    let mut topics = Vec::with_capacity(hello.topics.len());
    for name in &hello.topics {
        let Some(partitions) = uplink_partitions(name, allowed) else {
            let detail = format!("gateways may not append to topic {name:?}");
            return refused(GoodbyeReason::Unauthorized, detail);
        };
        topics.push((name.as_str(), partitions));
    }
    Ok(topics)
}

/// Partitions that a topic is made with which gateways may append to, whoever asks for it first; `None`: they may not.
pub(crate) fn uplink_partitions(name: &str, allowed: &BTreeSet<String>) -> Option<u32> {
    if name == CONTROL_TOPIC {
        Some(1)
    } else {
        allowed.contains(name).then_some(ROUTE_TOPIC_PARTITIONS)
    }
}

/// The session and WELCOME, once every topic that HELLO named is there; `None` if one is not.
pub(crate) fn welcome(
    now: UnixMs,
    life: Incarnation,
    identity: &GatewayId,
    hello: &HelloRequest,
    (image, log): (&Image, &Log),
) -> Option<(Session, UplinkAnswer)> {
    let topics: Option<Vec<TopicInfo<'_>>> = hello
        .topics
        .iter()
        .map(|name| {
            let topic = image.by_name(name)?;
            Some(TopicInfo { name, id: topic.id, partitions: topic.partitions })
        })
        .collect();
    let topics = topics?;
    let session = Session {
        pids: Lane::ALL.map(|lane| ProducerId::of_lane(identity, hello.spool, lane)),
        topics: topics.iter().map(|topic| topic.id).collect(),
    };
    let answer = UplinkAnswer::of(&Frame::Welcome(Welcome {
        version: VERSION,
        broker: life,
        time: now,
        profile: Profile::Single,
        frames_in_flight: SESSION_FRAMES_MAX,
        bytes_in_flight: SESSION_BYTES_MAX,
        shards: SHARDS,
        topics,
        states: states(&session, hello, image, log),
    }));
    Some((session, answer))
}

/// Where the streams stand that HELLO asks for and that are the session's own.
fn states(
    session: &Session,
    hello: &HelloRequest,
    image: &Image,
    log: &Log,
) -> Vec<(StreamKey, StreamState)> {
    let streams = hello.streams.iter().filter(|s| session.may_append(**s));
    streams
        .filter_map(|&stream| {
            let key = PartitionKey {
                topic_no: TopicNo(image.by_id(stream.topic)?.no),
                partition: stream.partition,
            };
            let pid = stream.pid;
            Some((stream, log.stream_state_durable(&UplinkStream { pid, key })?))
        })
        .take(STATES_HINTED_MAX)
        .collect()
}
