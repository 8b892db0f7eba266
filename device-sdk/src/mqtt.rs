//! What the SDK needs of an MQTT 5 client, and minimq behind it.
//!
//! Each connection is a session of its own that ends with it: what is to be sent again is decided by the outbox, not by
//! an MQTT session, which knows nothing of spools. The futures need not be `Send`: a device has one executor.

#![expect(
    async_fn_in_trait,
    reason = "a device's executor runs on one thread, no future needs to be Send"
)]

mod minimq;

pub use minimq::{Minimq, MinimqConnection, MinimqSession, MqttSettings};

use embedded_io_async::{Read, Write};

/// Why an MQTT operation failed. Unless said otherwise the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MqttError {
    /// Nothing was sent, the connection goes on: try again after the next acknowledgement.
    #[error("no room for another packet in flight")]
    Busy,
    /// A packet is larger than the caller's buffer.
    #[error("a buffer is too small")]
    Buffer,
    /// The transport failed, or either side closed it.
    #[error("the connection is closed")]
    Closed,
    /// The peer sent something that MQTT 5 does not allow here.
    #[error("the peer breaks the protocol")]
    Protocol,
    /// The peer refused the connection or the subscription, for this reason code.
    #[error("the peer refused with reason code {0:#04x}")]
    Refused(u8),
    /// Nothing was sent, the connection goes on: the peer takes no packet that large.
    #[error("the packet is larger than the peer takes")]
    TooLarge,
}

/// What a connection has to tell.
#[derive(Debug, PartialEq, Eq)]
pub enum MqttEvent<'a> {
    /// The peer has taken the publish with this token.
    Acknowledged(u64),
    /// A message of a subscription.
    Message {
        /// Its topic.
        topic: &'a str,
        /// Its payload.
        payload: &'a [u8],
    },
    /// Something happened that concerns nobody else.
    Progress,
    /// The peer has refused the publish with this token, for this reason code.
    Refused(u64, u8),
}

/// A QoS 1 publish, apart from its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MqttPublish<'a> {
    /// Names it in the events about it.
    pub token: u64,
    /// Its topic.
    pub topic: &'a str,
    /// A user property.
    pub user_property: Option<(&'a str, &'a str)>,
}

/// A device's MQTT client: buffers and settings for one connection after the other.
pub trait Mqtt {
    /// What one connection needs besides its transport.
    type Session<'a>: MqttSession
    where
        Self: 'a;

    /// Makes ready for a connection.
    fn session(&mut self) -> Self::Session<'_>;
}

/// Makes a connection.
pub trait MqttSession {
    /// A connection over a transport.
    type Connection<'s, T: Read + Write>: MqttConnection
    where
        Self: 's;

    /// Says CONNECT with a clean start, and waits for CONNACK.
    ///
    /// # Errors
    /// See [`MqttError`].
    async fn connect<T: Read + Write>(
        &mut self,
        transport: T,
    ) -> Result<Self::Connection<'_, T>, MqttError>;
}

/// A connection that was accepted.
pub trait MqttConnection {
    /// Subscribes with QoS 0; a retained message comes at once.
    ///
    /// # Errors
    /// See [`MqttError`]. A refusal by the peer is reported by [`MqttConnection::next_event`].
    async fn subscribe(&mut self, filter: &str) -> Result<(), MqttError>;

    /// Whether another publish has room. It has none before the subscription was accepted.
    fn is_ready(&self) -> bool;

    /// Publishes with QoS 1. `payload` writes the payload and returns its length, or gives `None` if it does not fit;
    /// it is called at most once, and if it is not called or does not fit, nothing was sent.
    ///
    /// # Errors
    /// See [`MqttError`].
    async fn publish(
        &mut self,
        publish: &MqttPublish<'_>,
        payload: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(), MqttError>;

    /// Waits for the next event, and keeps the connection alive meanwhile. Acknowledgements come in the order of the
    /// publishes. May be dropped at any time without losing an event.
    ///
    /// # Errors
    /// See [`MqttError`].
    async fn next_event(&mut self) -> Result<MqttEvent<'_>, MqttError>;
}
