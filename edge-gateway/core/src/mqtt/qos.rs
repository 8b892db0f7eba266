//! Quality of service.

/// How often a message may arrive (v5 4.3). The order is that of the promise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Qos {
    /// QoS 0: once or not at all.
    AtMostOnce = 0,
    /// QoS 1: once or more.
    AtLeastOnce = 1,
    /// QoS 2: once.
    ExactlyOnce = 2,
}

impl From<mqtt_proto::QoS> for Qos {
    fn from(qos: mqtt_proto::QoS) -> Self {
        match qos {
            mqtt_proto::QoS::Level0 => Self::AtMostOnce,
            mqtt_proto::QoS::Level1 => Self::AtLeastOnce,
            mqtt_proto::QoS::Level2 => Self::ExactlyOnce,
        }
    }
}
