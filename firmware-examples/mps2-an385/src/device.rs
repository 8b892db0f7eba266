//! The device: takes readings and hands them to the SDK, which sends them to the gateway.

use core::fmt;

use device_sdk::backoff::BackoffSettings;
use device_sdk::batcher::{BatchLimits, Batcher, SetupError};
use device_sdk::client::{self, ClientSettings, Connector, Event};
use device_sdk::device::Device;
use device_sdk::identity::DeviceId;
use device_sdk::mqtt::{Minimq, MqttSettings};
use device_sdk::outbox::{Counts, Outbox, OutboxSettings, RecordError, WhenFull};
use device_sdk::queue::{Queue, RamQueue};
use embassy_futures::select::{Either, select};
use embassy_net::Stack;
use embassy_net::tcp::{ConnectError, TcpSocket};
use embassy_time::{Duration, TimeoutError, Timer, with_timeout};
use wire::batch::READING_BYTES_MAX;
use wire::ids::QueueId;
use wire::reading::ClockQuality;
use wire::time::MonoMs;

use crate::plan::Plan;
use crate::random::Random;
use crate::{host, network, signal};

/// Bytes of batches that wait for a gateway: some 1,200 readings.
const QUEUE_LEN: usize = 16 * 1_024;

/// Few, so that the many packets give a bad line something to cut.
const BATCH_READINGS: u16 = 8;

/// The header with the table of sensors, and as many readings of the longest form.
const BATCH_LEN: usize = 96 + BATCH_READINGS as usize * READING_BYTES_MAX;

/// A reading waits no longer than this for others.
const BATCH_AGE_MS: u64 = 200;

/// Batches on their way at the same time.
const WINDOW: usize = 4;

/// CONNECT, or a window of batches with their topics and properties.
const MQTT_TX_LEN: usize = WINDOW * (BATCH_LEN + 120);
const MQTT_RX_LEN: usize = 256;

/// A segment each way; a batch is shorter.
const TCP_BUFFER_LEN: usize = 1_024;

/// A peer that acknowledges nothing for so long is gone.
const TCP_TIMEOUT: Duration = Duration::from_secs(10);

/// An emulated gateway's outages are short.
const CLIENT: ClientSettings = ClientSettings {
    backoff: BackoffSettings { first_ms: 50, max_ms: 1_000 },
    connect_timeout_ms: 10_000,
    acknowledge_timeout_ms: 30_000,
};

const KEEP_ALIVE_SECONDS: u16 = 15;

/// Why not every reading is acknowledged.
#[derive(Debug)]
pub enum Failure {
    /// No device has such an id.
    DeviceId,
    /// Some readings were lost or refused.
    Incomplete(Report),
    /// A reading does not fit the table of sensors.
    Record(RecordError),
    /// The SDK does not work with these sizes.
    Setup(SetupError),
    /// There was not enough time.
    Timeout(Report),
}

/// What became of the readings.
#[derive(Debug, Clone, Copy)]
pub struct Report {
    counts: Counts,
    planned: u32,
    connections: u32,
}

/// Takes the readings of `plan`, and ends when all are acknowledged.
///
/// # Errors
/// See [`Failure`].
pub async fn run(
    stack: Stack<'_>,
    plan: &Plan<'_>,
    random: &mut Random,
) -> Result<Report, Failure> {
    let id = DeviceId::new(plan.device).ok_or(Failure::DeviceId)?;
    // The queue is in memory: it begins anew with every start, and so does its name.
    let queue = QueueId(random.number());
    let mut batch = [0; BATCH_LEN];
    let limits = BatchLimits { readings: BATCH_READINGS, age_ms: BATCH_AGE_MS };
    let batcher =
        Batcher::new(queue, signal::SENSORS, &mut batch, limits).map_err(Failure::Setup)?;
    let settings = OutboxSettings { when_full: WhenFull::DropOldest, window: WINDOW };
    let outbox = Outbox::new(batcher, RamQueue::<QUEUE_LEN>::new(), settings);
    let device = Device::new(outbox.map_err(Failure::Setup)?);

    let (mut rx, mut tx) = ([0; MQTT_RX_LEN], [0; MQTT_TX_LEN]);
    let settings = MqttSettings { device: id, credentials: None, keep_alive_s: KEEP_ALIVE_SECONDS };
    let mut mqtt = Minimq::new(settings, &mut rx, &mut tx);
    let mut line =
        Line { stack, port: plan.port, rx: [0; TCP_BUFFER_LEN], tx: [0; TCP_BUFFER_LEN] };
    let mut connections = 0;
    let entropy = || random.number() as u32;
    let on_event = |event| {
        if let Event::Connected(_) = event {
            connections += 1;
        }
    };
    let publish = client::run(&device, id, &mut line, &mut mqtt, CLIENT, entropy, on_event);
    let patience = Duration::from_secs(u64::from(plan.patience_seconds));
    let outcome = with_timeout(patience, select(sample(&device, plan), publish)).await;

    let report = Report { counts: device.counts(), planned: plan.readings, connections };
    match outcome {
        Ok(Either::First(Ok(()))) if report.is_complete() => Ok(report),
        Ok(Either::First(Ok(()))) => Err(Failure::Incomplete(report)),
        Ok(Either::First(Err(error))) => Err(Failure::Record(error)),
        Ok(Either::Second(never)) => match never {},
        Err(TimeoutError) => Err(Failure::Timeout(report)),
    }
}

/// Takes the readings, and waits until none waits for the gateway any more.
async fn sample(device: &Device<'_, impl Queue>, plan: &Plan<'_>) -> Result<(), RecordError> {
    let started_at = i64::from(host::unix_seconds()) * 1_000 - uptime_ms(client::now());
    device.set_clock(ClockQuality::Synced);
    for number in 1..=plan.readings {
        let now = client::now();
        match device.record(now, &signal::reading(number, started_at + uptime_ms(now))) {
            // A queue that is full loses a reading and counts it: the gateway hears of it, and so does the report.
            Ok(_) | Err(RecordError::Full) => {}
            Err(error) => return Err(error),
        }
        Timer::after_millis(u64::from(plan.pause_ms)).await;
    }
    device.flush();
    device.drained().await;
    Ok(())
}

fn uptime_ms(now: MonoMs) -> i64 {
    // Milliseconds of 292 million years.
    i64::try_from(now.0).unwrap_or(i64::MAX)
}

/// The way to the gateway.
struct Line<'a> {
    stack: Stack<'a>,
    port: u16,
    rx: [u8; TCP_BUFFER_LEN],
    tx: [u8; TCP_BUFFER_LEN],
}

impl<'s> Connector for Line<'s> {
    type Transport<'a>
        = TcpSocket<'a>
    where
        's: 'a;
    type Error = ConnectError;

    async fn connect(&mut self) -> Result<TcpSocket<'_>, ConnectError> {
        let mut socket = TcpSocket::new(self.stack, &mut self.rx, &mut self.tx);
        socket.set_timeout(Some(TCP_TIMEOUT));
        // A batch is to go out when it is there, and not when the one before it is acknowledged.
        socket.set_nagle_enabled(false);
        socket.connect((network::HOST, self.port)).await?;
        Ok(socket)
    }
}

impl Report {
    fn is_complete(&self) -> bool {
        self.counts.acknowledged == u64::from(self.planned)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Counts { recorded, acknowledged, lost, refused } = self.counts;
        write!(
            formatter,
            "{recorded} of {} readings recorded, {acknowledged} acknowledged, {lost} lost, {refused} refused, \
             {} connections",
            self.planned, self.connections
        )
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DeviceId => write!(formatter, "no device has such an id"),
            Self::Incomplete(report) => write!(formatter, "readings are missing: {report}"),
            Self::Record(error) => write!(formatter, "{error}"),
            Self::Setup(error) => write!(formatter, "{error}"),
            Self::Timeout(report) => write!(formatter, "not enough time: {report}"),
        }
    }
}
