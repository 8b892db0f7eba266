//! The MQTT edge without its sockets: what a client's bytes mean, and which bytes answer them, for MQTT 3.1.1 and 5.
//!
//! [`Connection`] is the machine of one network connection. Its invariant is promise 1: a PUBACK that says success is
//! made in one place only, the gate, and only from [`Connection::committed`].
//!
//! The codec is `mqtt-proto` for every packet but PUBLISH and the acknowledgement of success, which are read and
//! written here because they are the hot path. What `mqtt-proto` lets pass is refused by a strict pass of our own.
//!
//! Deliberately missing, and refused by the protocol's own means: QoS 2, subscriptions, wills, resumable sessions and
//! enhanced authentication. What a session will keep across connections belongs beside [`Connection`], not in it.
//!
//! Section numbers in this module's comments are those of the OASIS standards "MQTT Version 5.0" (`v5`) and
//! "MQTT Version 3.1.1" (`v3`).

mod alias;
mod close;
mod connect;
mod connection;
mod control;
mod frame;
mod gate;
mod limits;
mod properties;
mod publish;
mod reader;
mod reply;
mod sequence;
mod text;

pub use close::{CloseReason, ConnectRefusal, PublishRefusal, RejectReason};
pub use connect::{ConnectRequest, MqttVersion};
pub use connection::{Connection, Output, Refused};
pub use limits::{
    CLIENT_ID_LEN_MAX, CONNECT_DEADLINE_MS, CONNECT_PACKET_LEN_MAX, CONTROL_PACKET_LEN_MAX,
    MqttLimits, PACKET_LEN_MAX_DEFAULT, RECEIVE_MAX_DEFAULT, TOPIC_ALIAS_MAX, TOPIC_LEN_MAX,
    UNACKNOWLEDGED_BYTES_MAX_DEFAULT, USER_PROPERTIES_LEN_MAX, USER_PROPERTIES_MAX,
};
pub use publish::{Delivery, Publish, PublishProperties};
pub use sequence::{
    DeviceSequence, LOST_PROPERTY, MAYBE_DUP_PROPERTY, QUEUE_PROPERTY, SEQUENCE_PROPERTY,
    SequenceFault,
};
pub use text::{Text, Topic};

#[cfg(test)]
mod tests;
