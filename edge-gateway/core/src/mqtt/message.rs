//! Messages on their way to local subscribers.

use std::sync::Arc;

use bytes::Bytes;
use wire::time::MonoMs;

use super::publish::{Publish, PublishProperties};
use super::qos::Qos;
use super::sequence::DeviceSequence;
use super::text::{Text, Topic};

/// What a message takes in memory beside its bytes, in bytes; generous.
const MESSAGE_OVERHEAD_BYTES: usize = 256;

/// A publish that is committed, for local subscribers. Its bytes are its own: it may be kept long, and a few bytes of a
/// read buffer would keep all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it was published to.
    pub topic: Topic,
    /// The message, byte for byte.
    pub payload: Bytes,
    /// With which quality of service it was published.
    pub qos: Qos,
    /// To be kept for future subscribers.
    pub retain: bool,
    /// The number of the reading in its device's queue, if the client numbers them.
    pub sequence: Option<DeviceSequence>,
    /// The client says that a copy may be about already.
    pub maybe_dup: bool,
    /// The other properties of MQTT 5, if there are any.
    pub properties: Option<Box<PublishProperties>>,
    /// Who published it; `None` for the gateway itself.
    pub publisher: Option<Arc<str>>,
    /// When it is not worth delivering any more.
    pub expires_at: Option<MonoMs>,
}

impl Message {
    /// A copy of `publish`, which came at `now`.
    #[must_use]
    pub fn new(publish: &Publish, publisher: &Arc<str>, now: MonoMs) -> Self {
        let properties =
            publish.properties.as_ref().map(|properties| Box::new(properties.detached()));
        Self {
            topic: publish.topic.detached(),
            payload: Bytes::copy_from_slice(&publish.payload),
            qos: publish.delivery.qos(),
            retain: publish.retain,
            sequence: publish.sequence,
            maybe_dup: publish.maybe_dup,
            expires_at: expiry(properties.as_deref(), now),
            properties,
            publisher: Some(Arc::clone(publisher)),
        }
    }

    /// A message of the gateway itself, retained. `None` if `topic` names no topic.
    #[must_use]
    pub fn of_gateway(topic: &'static str, payload: Bytes) -> Option<Self> {
        Some(Self {
            topic: Topic::new(Text::new(Bytes::from_static(topic.as_bytes()))?)?,
            payload,
            qos: Qos::AtLeastOnce,
            retain: true,
            sequence: None,
            maybe_dup: false,
            properties: None,
            publisher: None,
            expires_at: None,
        })
    }

    /// What it takes in memory, roughly, in bytes.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let properties = self.properties.as_deref().map_or(0, PublishProperties::byte_len);
        MESSAGE_OVERHEAD_BYTES + self.topic.byte_len() + self.payload.len() + properties
    }

    /// Whether its time is over.
    #[must_use]
    pub fn is_expired(&self, now: MonoMs) -> bool {
        self.expires_at.is_some_and(|at| at <= now)
    }
}

/// When a message that came at `now` expires (v5 3.3.2.3.3).
pub(super) fn expiry(properties: Option<&PublishProperties>, now: MonoMs) -> Option<MonoMs> {
    let seconds = properties?.message_expiry_s?;
    Some(now + u64::from(seconds) * 1_000)
}

/// A message for one subscriber.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Forward {
    /// The message, shared by all that get it.
    pub message: Arc<Message>,
    /// With which quality of service this subscriber gets it.
    pub qos: Qos,
    /// The RETAIN flag that it gets (v5 3.3.1.3).
    pub retain: bool,
    /// Identifiers of the subscriptions that matched.
    pub subscription_ids: Vec<u32>,
}

impl Forward {
    /// What it takes of the limits on queues, in bytes: as if the message were not shared.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        self.message.memory_bytes()
    }
}

/// Why a local subscriber does not get a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// The subscriber's session ended.
    Ended,
    /// Its message expiry interval was over.
    Expired,
    /// The subscriber's queue has reached its limit.
    Full,
    /// All queues together have reached theirs.
    Memory,
    /// QoS 0, and the subscriber is not connected.
    Offline,
    /// Larger than the subscriber takes.
    TooLarge,
}

impl DropReason {
    /// Its name in metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Full => "full",
            Self::Memory => "memory",
            Self::Offline => "offline",
            Self::TooLarge => "too_large",
        }
    }
}
