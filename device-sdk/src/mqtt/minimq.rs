//! The SDK's MQTT client made of minimq.

use embedded_io_async::{Read, Write};
use minimq::{
    Buffers, ConfigBuilder, Connection, Error, Op, PeerError, Property, PubError, Publication, QoS,
    ResourceError, Session, TopicFilter,
};

use super::{Mqtt, MqttConnection, MqttError, MqttEvent, MqttPublish, MqttSession};
use crate::identity::DeviceId;
use crate::outbox::WINDOW_MAX;

/// What a device says in its CONNECT.
#[derive(Debug, Clone, Copy)]
pub struct MqttSettings<'b> {
    /// The client id.
    pub device: DeviceId<'b>,
    /// User name and password.
    pub credentials: Option<(&'b str, &'b [u8])>,
    /// A sign of life is sent after this long at the latest; seconds, 0 for never. Lowering it costs packets, raising
    /// it costs time until a dead connection is noticed.
    pub keep_alive_s: u16,
}

/// minimq, with the caller's buffers.
#[derive(Debug)]
pub struct Minimq<'b> {
    settings: MqttSettings<'b>,
    rx: &'b mut [u8],
    tx: &'b mut [u8],
}

impl<'b> Minimq<'b> {
    /// `rx` holds the largest packet that a gateway sends; 256 bytes are enough. `tx` holds CONNECT and every batch in
    /// flight with about 120 bytes more than its payload; with less, fewer are in flight.
    pub fn new(settings: MqttSettings<'b>, rx: &'b mut [u8], tx: &'b mut [u8]) -> Self {
        Self { settings, rx, tx }
    }
}

impl Mqtt for Minimq<'_> {
    type Session<'a>
        = MinimqSession<'a>
    where
        Self: 'a;

    fn session(&mut self) -> MinimqSession<'_> {
        let MqttSettings { device, credentials, keep_alive_s } = self.settings;
        let config = ConfigBuilder::new(Buffers::new(self.rx, self.tx))
            .keepalive_interval(keep_alive_s)
            .client_id(device.as_str())
            .expect("a device id is no longer than minimq's client ids");
        let config = match credentials {
            Some((name, password)) => config.auth(name, password).expect("given once"),
            None => config,
        };
        MinimqSession { session: Session::new(config) }
    }
}

/// A session that has no state from before.
pub struct MinimqSession<'a> {
    session: Session<'a>,
}

impl<'a> MqttSession for MinimqSession<'a> {
    type Connection<'s, T: Read + Write>
        = MinimqConnection<'s, 'a, T>
    where
        Self: 's;

    async fn connect<T: Read + Write>(
        &mut self,
        transport: T,
    ) -> Result<MinimqConnection<'_, 'a, T>, MqttError> {
        let connection = self.session.connect(transport).await.map_err(mqtt_error)?;
        let flights = [const { None }; WINDOW_MAX];
        Ok(MinimqConnection {
            connection,
            subscription: None,
            flights,
            refusal: None,
            failure: None,
        })
    }
}

/// A connection of minimq's.
pub struct MinimqConnection<'s, 'a, T> {
    connection: Connection<'s, 'a, T>,
    subscription: Option<Op>,
    /// Unreported publishes in the order in which they were sent, without gaps.
    flights: [Option<Flight>; WINDOW_MAX],
    /// The newest of the finished publishes was refused.
    refusal: Option<u8>,
    /// The connection is over; what was acknowledged before is reported first.
    failure: Option<MqttError>,
}

struct Flight {
    token: u64,
    op: Op,
}

impl<T: Read + Write> MqttConnection for MinimqConnection<'_, '_, T> {
    async fn subscribe(&mut self, filter: &str) -> Result<(), MqttError> {
        let subscribed = self.connection.subscribe(&[TopicFilter::new(filter)], &[]).await;
        self.subscription = Some(subscribed.map_err(mqtt_error)?);
        Ok(())
    }

    fn is_ready(&self) -> bool {
        self.failure.is_none()
            && self.refusal.is_none()
            && self.subscription.is_some_and(|op| self.connection.is_complete(&op))
            && self.flights.iter().any(Option::is_none)
            && self.connection.can_publish(QoS::AtLeastOnce)
    }

    async fn publish(
        &mut self,
        publish: &MqttPublish<'_>,
        payload: impl FnOnce(&mut [u8]) -> Option<usize>,
    ) -> Result<(), MqttError> {
        let Some(slot) = self.flights.iter_mut().find(|flight| flight.is_none()) else {
            return Err(MqttError::Busy);
        };
        let property =
            publish.user_property.map(|(name, value)| Property::UserProperty(name, value));
        let fill = |out: &mut [u8]| payload(out).ok_or(());
        let publication = Publication::new(publish.topic, fill)
            .qos(QoS::AtLeastOnce)
            .properties(property.as_slice());
        match self.connection.publish(publication).await {
            Ok(Some(op)) => {
                *slot = Some(Flight { token: publish.token, op });
                Ok(())
            }
            // Only QoS 0 has no operation, and minimq was not allowed to lower the QoS.
            Ok(None) => Err(MqttError::Protocol),
            Err(PubError::Payload(())) => Err(MqttError::Busy),
            Err(PubError::Session(Error::NotReady)) => Err(MqttError::Busy),
            Err(PubError::Session(Error::Resource(ResourceError::PacketTooLarge))) => {
                Err(MqttError::TooLarge)
            }
            Err(PubError::Session(Error::Resource(_))) => Err(MqttError::Busy),
            Err(PubError::Session(error)) => Err(mqtt_error(error)),
        }
    }

    async fn next_event(&mut self) -> Result<MqttEvent<'_>, MqttError> {
        if let Some((token, is_newest)) = self.take_finished() {
            let refusal = if is_newest { self.refusal.take() } else { None };
            return Ok(match refusal {
                Some(code) => MqttEvent::Refused(token, code),
                None => MqttEvent::Acknowledged(token),
            });
        }
        // No publish is finished, so what was refused is the subscription.
        if let Some(code) = self.refusal {
            return Err(MqttError::Refused(code));
        }
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        match self.connection.poll().await {
            Ok(Some(message)) => {
                let (topic, payload) = (message.topic(), message.payload());
                Ok(MqttEvent::Message { topic, payload })
            }
            Ok(None) => Ok(MqttEvent::Progress),
            Err(Error::Peer(PeerError::Rejected(code))) => {
                self.refusal = Some(code.into());
                Ok(MqttEvent::Progress)
            }
            Err(error) => {
                self.failure = Some(mqtt_error(error));
                Ok(MqttEvent::Progress)
            }
        }
    }
}

impl<T: Read + Write> MinimqConnection<'_, '_, T> {
    /// Takes the oldest publish that has its PUBACK, and says whether it is the newest of those. PUBACKs come in the
    /// order of the publishes [MQTT-4.6.0-2], and minimq returns at once on one that refuses: it is the newest.
    fn take_finished(&mut self) -> Option<(u64, bool)> {
        let connection = &self.connection;
        let is_finished = |flight: &&Option<Flight>| {
            flight.as_ref().is_some_and(|flight| connection.is_complete(&flight.op))
        };
        let finished = self.flights.iter().filter(is_finished).count();
        let at = self.flights.iter().position(|flight| is_finished(&flight))?;
        let token = self.flights[at].take()?.token;
        self.flights[at..].rotate_left(1);
        Some((token, finished == 1))
    }
}

fn mqtt_error<E>(error: Error<E>) -> MqttError {
    match error {
        Error::Peer(PeerError::Rejected(code)) => MqttError::Refused(code.into()),
        Error::Peer(PeerError::InvalidPacket) | Error::InvalidRequest => MqttError::Protocol,
        Error::Resource(_) => MqttError::Buffer,
        // Not ready, closed, failed while writing; and whatever a later minimq may add.
        _ => MqttError::Closed,
    }
}
