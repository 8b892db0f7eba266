//! The run loop: connects, learns the gateway's spool, publishes what the outbox gives, and begins again after any end.
//!
//! It never spins: it waits for the gateway, for the sampling side, or for a deadline, and after every connection,
//! however short, for the backoff. Everything that a gateway may leave unanswered has a deadline.

use core::convert::Infallible;
use core::fmt::Debug;

use embassy_futures::select::{Either3, select3};
use embassy_time::{Duration, Instant, Timer, with_timeout};
use embedded_io_async::{Read, Write};
use wire::ids::SpoolId;
use wire::seq::DeviceSeq;
use wire::time::MonoMs;

use crate::backoff::{Backoff, BackoffSettings};
use crate::device::Device;
use crate::identity::{BatchTopic, DeviceId, GATEWAY_TOPIC, parse_spool};
use crate::mqtt::{Mqtt, MqttConnection, MqttError, MqttEvent, MqttPublish, MqttSession};
use crate::outbox::Refusal;
use crate::queue::Queue;

/// On a batch that may be in a log already.
const MAYBE_DUP: (&str, &str) = ("cv-maybe-dup", "1");

/// Makes the byte stream to a gateway: TCP, or TLS over it.
#[expect(
    async_fn_in_trait,
    reason = "a device's executor runs on one thread, no future needs to be Send"
)]
pub trait Connector {
    /// An open byte stream; dropping it closes it. Reading must be safe to cancel, and wait while there is nothing to
    /// read.
    type Transport<'a>: Read + Write
    where
        Self: 'a;

    /// Why there is none. The run loop does not look at it: log it here.
    type Error: Debug;

    /// Connects. May be dropped at any time.
    ///
    /// # Errors
    /// The network's.
    async fn connect(&mut self) -> Result<Self::Transport<'_>, Self::Error>;
}

/// Settings of the run loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientSettings {
    /// Waiting time between connections.
    pub backoff: BackoffSettings,
    /// How long connecting, CONNACK, and the spool id may take each, in milliseconds.
    pub connect_timeout_ms: u32,
    /// How long a publish may wait for its way onto the network, and then for its PUBACK, in milliseconds. A gateway
    /// acknowledges when its disk has the batch; too low a value makes a busy one busier.
    pub acknowledge_timeout_ms: u32,
}

impl Default for ClientSettings {
    /// 10 s for a connection, 30 s for an acknowledgement.
    fn default() -> Self {
        Self {
            backoff: BackoffSettings::default(),
            connect_timeout_ms: 10_000,
            acknowledge_timeout_ms: 30_000,
        }
    }
}

/// What the run loop tells the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// A gateway has accepted the connection and named its spool: batches are published.
    Connected(SpoolId),
    /// The connection has ended, or none came about.
    Disconnected {
        /// Why.
        ending: Ending,
        /// The next one is tried after this many milliseconds.
        retry_ms: u32,
    },
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// The gateway refused a batch.
    BatchRefused {
        /// The batch's first reading.
        first: DeviceSeq,
        /// Of the PUBACK.
        reason_code: u8,
        /// What that means: after [`Refusal::Invalid`] the batch is gone, and counted as refused.
        refusal: Refusal,
    },
    /// MQTT failed; [`MqttError::Refused`] is the gateway's reason code for not accepting the connection.
    Mqtt(MqttError),
    /// The gateway did not answer in time.
    Silent,
    /// The gateway changed its spool meanwhile.
    SpoolChanged,
    /// There was no network connection.
    Unreachable,
}

impl Ending {
    /// Whether it will go on like this until somebody changes a setting.
    fn is_hopeless(self) -> bool {
        match self {
            Self::BatchRefused { refusal, .. } => refusal == Refusal::NotAuthorized,
            // Version, client id, user name or password, authorization, ban, authentication method (table 3-1).
            Self::Mqtt(MqttError::Refused(code)) => {
                matches!(code, 0x84 | 0x85 | 0x86 | 0x87 | 0x8a | 0x8c)
            }
            Self::Mqtt(_) | Self::Silent | Self::SpoolChanged | Self::Unreachable => false,
        }
    }
}

/// The time that the run loop goes by, for [`Device::record`].
#[must_use]
pub fn now() -> MonoMs {
    MonoMs(Instant::now().as_millis())
}

/// Publishes what `device` records, for ever. `id` must be the client id that `mqtt` uses. `entropy` gives 32 random
/// bits at each call. Dropping the future closes the connection; what is unacknowledged stays in the outbox.
pub async fn run<Q: Queue>(
    device: &Device<'_, Q>,
    id: DeviceId<'_>,
    connector: &mut impl Connector,
    mqtt: &mut impl Mqtt,
    settings: ClientSettings,
    mut entropy: impl FnMut() -> u32,
    mut on_event: impl FnMut(Event),
) -> Infallible {
    let topic = BatchTopic::of(id);
    let mut backoff = Backoff::new(settings.backoff);
    let settled = millis(settings.backoff.max_ms);
    loop {
        let (began, acknowledged) = (Instant::now(), device.counts().acknowledged);
        let mut run = Run { device, topic: topic.as_str(), settings, on_event: &mut on_event };
        let ending = run.connection(connector, mqtt).await;
        device.update(|outbox| outbox.disconnected());
        if device.counts().acknowledged > acknowledged || began.elapsed() > settled {
            backoff.reset();
        }
        let retry_ms = match ending.is_hopeless() {
            true => backoff.hopeless(entropy()),
            false => backoff.failed(entropy()),
        };
        on_event(Event::Disconnected { ending, retry_ms });
        Timer::after_millis(u64::from(retry_ms)).await;
    }
}

struct Run<'r, 'b, Q, F> {
    device: &'r Device<'b, Q>,
    topic: &'r str,
    settings: ClientSettings,
    on_event: &'r mut F,
}

impl<Q: Queue, F: FnMut(Event)> Run<'_, '_, Q, F> {
    /// One connection from its beginning to its end.
    async fn connection(&mut self, connector: &mut impl Connector, mqtt: &mut impl Mqtt) -> Ending {
        let patience = millis(self.settings.connect_timeout_ms);
        let transport = match with_timeout(patience, connector.connect()).await {
            Ok(Ok(transport)) => transport,
            Ok(Err(_)) => return Ending::Unreachable,
            Err(_) => return Ending::Silent,
        };
        let mut session = mqtt.session();
        let mut connection = match with_timeout(patience, session.connect(transport)).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Ending::Mqtt(error),
            Err(_) => return Ending::Silent,
        };
        self.device.update(|outbox| outbox.connected());
        match with_timeout(patience, connection.subscribe(GATEWAY_TOPIC)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Ending::Mqtt(error),
            Err(_) => return Ending::Silent,
        }
        match self.converse(&mut connection).await {
            Ok(never) => match never {},
            Err(ending) => ending,
        }
    }

    /// Publishes and handles what comes back, until the connection ends.
    async fn converse(
        &mut self,
        connection: &mut impl MqttConnection,
    ) -> Result<Infallible, Ending> {
        let mut answer_by = Some(Instant::now() + millis(self.settings.connect_timeout_ms));
        let mut spool = None;
        loop {
            if spool.is_some() {
                answer_by = self.publish_all(connection, answer_by).await?;
            }
            let due = self.device.update(|outbox| {
                outbox.poll(now());
                outbox.due()
            });
            let due = due.map(|due| Instant::from_millis(due.0));
            let deadline = until([answer_by, due].into_iter().flatten().min());
            match select3(connection.next_event(), self.device.work(), deadline).await {
                Either3::First(event) => match event.map_err(Ending::Mqtt)? {
                    MqttEvent::Acknowledged(token) => {
                        self.device.update(|outbox| outbox.acknowledged(DeviceSeq(token)));
                        answer_by = None;
                    }
                    MqttEvent::Message { topic: GATEWAY_TOPIC, payload } => {
                        spool = self.learn_spool(spool, payload)?;
                        answer_by = answer_by.filter(|_| spool.is_none());
                    }
                    MqttEvent::Message { .. } | MqttEvent::Progress => {}
                    MqttEvent::Refused(token, code) => {
                        return Err(self.refused(DeviceSeq(token), code));
                    }
                },
                Either3::Second(()) | Either3::Third(()) => {}
            }
            // Asked after every event: a device that records all the time would never let the timer win.
            if answer_by.is_some_and(|by| by <= Instant::now()) {
                return Err(Ending::Silent);
            }
        }
    }

    /// Publishes what the window allows. Takes and returns the deadline of the next acknowledgement.
    async fn publish_all(
        &mut self,
        connection: &mut impl MqttConnection,
        answer_by: Option<Instant>,
    ) -> Result<Option<Instant>, Ending> {
        let patience = millis(self.settings.acknowledge_timeout_ms);
        while connection.is_ready() {
            let Some(publish) = self.device.update(|outbox| outbox.next_publish()) else {
                break;
            };
            let message = MqttPublish {
                token: publish.first.0,
                topic: self.topic,
                user_property: publish.maybe_dup.then_some(MAYBE_DUP),
            };
            let payload =
                |out: &mut [u8]| self.device.update(|outbox| outbox.payload(&publish, out)).ok();
            match with_timeout(patience, connection.publish(&message, payload)).await {
                Ok(Ok(())) => {}
                // Nothing was sent. With others in flight it is tried again after them; alone it will never go.
                Ok(Err(MqttError::Busy | MqttError::TooLarge)) if self.in_flight() > 1 => {
                    self.device.update(|outbox| outbox.withdrawn(publish.first));
                    break;
                }
                Ok(Err(MqttError::Busy)) => return Err(Ending::Mqtt(MqttError::Buffer)),
                Ok(Err(MqttError::TooLarge)) => return Err(self.too_large(publish.first)),
                Ok(Err(error)) => return Err(Ending::Mqtt(error)),
                Err(_) => return Err(Ending::Silent),
            }
        }
        // With nothing in flight, what is missing is the answer to the subscription.
        let waiting = self.in_flight() > 0 || !connection.is_ready();
        Ok(waiting.then(|| answer_by.unwrap_or_else(|| Instant::now() + patience)))
    }

    fn in_flight(&self) -> usize {
        self.device.update(|outbox| outbox.in_flight())
    }

    /// Whatever a later version of the gateway may write there, the spool id comes first.
    fn learn_spool(
        &mut self,
        known: Option<SpoolId>,
        payload: &[u8],
    ) -> Result<Option<SpoolId>, Ending> {
        let Some(spool) = parse_spool(payload) else {
            return Ok(known);
        };
        if !self.device.update(|outbox| outbox.spool_seen(spool)) {
            return Err(Ending::SpoolChanged);
        }
        if known.is_none() {
            (self.on_event)(Event::Connected(spool));
        }
        Ok(Some(spool))
    }

    fn refused(&mut self, first: DeviceSeq, reason_code: u8) -> Ending {
        let refusal = Refusal::of_reason_code(reason_code).unwrap_or(Refusal::Busy);
        self.device.update(|outbox| outbox.refused(first, refusal));
        Ending::BatchRefused { first, reason_code, refusal }
    }

    /// The gateway said in its CONNACK that it takes no packet as large as this batch.
    fn too_large(&mut self, first: DeviceSeq) -> Ending {
        const PACKET_TOO_LARGE: u8 = 0x95;
        self.refused(first, PACKET_TOO_LARGE)
    }
}

/// Waits until a deadline, or for ever if there is none.
async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => Timer::at(deadline).await,
        None => core::future::pending().await,
    }
}

fn millis(ms: u32) -> Duration {
    Duration::from_millis(u64::from(ms))
}
