//! The MQTT edge without its sockets: what a client's bytes mean, and which bytes answer them, for MQTT 3.1.1 and 5.
//!
//! [`Connection`] is the machine of one network connection. Its invariant is promise 1: a PUBACK that says success is
//! made in one place only, the gate, and only from [`Connection::committed`].
//!
//! The codec is `mqtt-proto` for every packet but PUBLISH and the acknowledgement of success, which are read and
//! written here because they are the hot path. What `mqtt-proto` lets pass is refused by a strict pass of our own.
//!
//! [`Connection`] holds a session's state ([`SessionState`]) while it lasts; before and after, the hub has it
//! ([`crate::hub`]).
//!
//! Deliberately missing, and refused by the protocol's own means: shared subscriptions and enhanced authentication.
//!
//! Section numbers in this module's comments are those of the OASIS standards "MQTT Version 5.0" (`v5`) and
//! "MQTT Version 3.1.1" (`v3`).

mod alias;
mod close;
mod connect;
mod connection;
mod control;
mod filter;
mod frame;
mod gate;
mod limits;
mod message;
mod outbound;
mod outgoing;
mod properties;
mod publish;
mod qos;
mod reader;
mod reply;
mod reserved;
mod sequence;
mod session;
mod subscribe;
mod text;
mod will;

pub use close::{CloseReason, ConnectRefusal, PublishRefusal, RejectReason};
pub use connect::{ConnectRequest, MqttVersion};
pub use connection::{Connection, Output, Refused};
pub use filter::{Filter, FilterFault};
pub use limits::{
    CLIENT_ID_LEN_MAX, CONNECT_DEADLINE_MS, CONNECT_PACKET_LEN_MAX, CONTROL_PACKET_LEN_MAX,
    CREDIT_WORTH, FILTER_LEN_MAX, FILTER_LEVELS_MAX, INFLIGHT_BYTES_MAX, INFLIGHT_MAX, MqttLimits,
    PACKET_LEN_MAX_DEFAULT, RECEIVE_MAX_DEFAULT, TOPIC_ALIAS_MAX, TOPIC_LEN_MAX,
    UNACKNOWLEDGED_BYTES_MAX_DEFAULT, UNRELEASED_MAX, USER_PROPERTIES_LEN_MAX, USER_PROPERTIES_MAX,
};
pub use message::{DropReason, Forward, Message};
pub use outbound::Credit;
pub use publish::{Delivery, Publish, PublishProperties};
pub use qos::Qos;
pub use reserved::GATEWAY_TOPIC;
pub use sequence::{
    DeviceSequence, LOST_PROPERTY, MAYBE_DUP_PROPERTY, QUEUE_PROPERTY, SEQUENCE_PROPERTY,
    SequenceFault,
};
pub use session::{Departure, SessionGrant, SessionState};
pub use subscribe::{
    RetainHandling, SubscribeOutcome, SubscribeRequest, SubscriptionOptions, UnsubscribeOutcome,
    UnsubscribeRequest,
};
pub use text::{Text, Topic};
pub use will::Will;

#[cfg(test)]
mod tests;
