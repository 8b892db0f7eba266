//! SUBSCRIBE and UNSUBSCRIBE, and what may answer them.

use std::num::NonZeroU16;
use std::sync::Arc;

use mqtt_proto::v5::{RetainHandling as ProtoRetainHandling, SubscribeReasonCode};

use super::filter::FilterFault;
use super::qos::Qos;

/// When a new subscriber gets what is retained (v5 3.8.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RetainHandling {
    /// With every SUBSCRIBE.
    Always,
    /// If there was no such subscription.
    IfNew,
    /// Not at all.
    Never,
}

impl From<ProtoRetainHandling> for RetainHandling {
    fn from(handling: ProtoRetainHandling) -> Self {
        match handling {
            ProtoRetainHandling::SendAtSubscribe => Self::Always,
            ProtoRetainHandling::SendAtSubscribeIfNotExist => Self::IfNew,
            ProtoRetainHandling::DoNotSend => Self::Never,
        }
    }
}

/// What a client wants of a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriptionOptions {
    /// The highest quality of service that it is to get.
    pub qos: Qos,
    /// Its own publishes are not for it.
    pub no_local: bool,
    /// The RETAIN flag of the publish is passed on.
    pub retain_as_published: bool,
    /// When it gets what is retained.
    pub retain_handling: RetainHandling,
    /// To be put into every publish that the subscription matches.
    pub id: Option<u32>,
}

impl SubscriptionOptions {
    /// Those of MQTT 3.1.1.
    #[must_use]
    pub fn v311(qos: Qos) -> Self {
        Self {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::Always,
            id: None,
        }
    }
}

/// A SUBSCRIBE, for the shell to ask the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscribeRequest {
    /// Packet identifier, to be given back.
    pub packet_id: NonZeroU16,
    /// Filters and what is wanted of each.
    pub filters: Vec<(Arc<str>, SubscriptionOptions)>,
}

/// An UNSUBSCRIBE, for the shell to ask the hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsubscribeRequest {
    /// Packet identifier, to be given back.
    pub packet_id: NonZeroU16,
    /// Filters.
    pub filters: Vec<Arc<str>>,
}

/// What became of one filter of a SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SubscribeOutcome {
    /// Subscribed, up to this quality of service.
    Granted(Qos),
    /// The filter cannot be subscribed to.
    Invalid(FilterFault),
    /// The client has too many subscriptions.
    QuotaExceeded,
}

impl SubscribeOutcome {
    /// Reason code of the SUBACK (v5 table 3-8).
    pub(super) fn v5_code(self) -> SubscribeReasonCode {
        use SubscribeReasonCode as Code;
        match self {
            Self::Granted(Qos::AtMostOnce) => Code::GrantedQoS0,
            Self::Granted(Qos::AtLeastOnce) => Code::GrantedQoS1,
            Self::Granted(Qos::ExactlyOnce) => Code::GrantedQoS2,
            Self::Invalid(FilterFault::Malformed | FilterFault::TooLong) => {
                Code::TopicFilterInvalid
            }
            Self::Invalid(FilterFault::Shared) => Code::SharedSubscriptionNotSupported,
            Self::QuotaExceeded => Code::QuotaExceeded,
        }
    }

    /// Return code of the SUBACK (v3 3.9.3).
    pub(super) fn v3_code(self) -> u8 {
        match self {
            Self::Granted(qos) => qos as u8,
            Self::Invalid(_) | Self::QuotaExceeded => 0x80,
        }
    }
}

/// What became of one filter of an UNSUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnsubscribeOutcome {
    /// There was no such subscription.
    NotFound,
    /// It is gone.
    Removed,
}
