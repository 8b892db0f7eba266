//! The devices: firmware as a customer writes it, with the SDK, many times in one thread.
//!
//! They know of no demonstration: each samples its sensors on a clock of its own, and the SDK batches, queues, publishes
//! and acknowledges. What a device says that it published is the SDK's own count.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use device_sdk::batcher::{BatchLimits, Batcher};
use device_sdk::client::{self, ClientSettings, Connector};
use device_sdk::device::Device;
use device_sdk::identity::DeviceId;
use device_sdk::mqtt::{Minimq, MqttSettings};
use device_sdk::outbox::{Counts, Outbox, OutboxSettings, WhenFull};
use device_sdk::queue::RamQueue;
use embedded_io_adapters::tokio_1::FromTokio;
use process::Clock;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::LocalSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use wire::ids::QueueId;
use wire::reading::ClockQuality;

use super::ledger::DeviceReport;
use super::plan::Plan;
use super::signal::{Chance, SENSORS, Signals};

/// How often a device reads its sensors.
const SAMPLE_INTERVAL: Duration = Duration::from_millis(200);

/// Readings that each device takes in a second.
pub const READINGS_PER_SECOND: u128 = SENSORS.len() as u128 * 1_000 / SAMPLE_INTERVAL.as_millis();

/// What a device waits for before it publishes: a second's readings.
const BATCH_LIMITS: BatchLimits = BatchLimits { readings: 20, age_ms: 1_000 };

const OUTBOX_SETTINGS: OutboxSettings =
    OutboxSettings { when_full: WhenFull::DropNewest, window: 4 };

/// Memory of a device. A batch takes about 250 bytes, so the queue bridges a minute without a gateway.
const BATCH_BYTES: usize = 1_024;
const QUEUE_BYTES: usize = 16 << 10;
const RX_BYTES: usize = 512;
const TX_BYTES: usize = 5 << 10;

/// How often a device's counts are looked at.
const COUNT_INTERVAL: Duration = Duration::from_millis(50);

/// Seconds until a device shows a sign of life.
const KEEP_ALIVE_S: u16 = 30;

/// Devices at work, on a thread of their own: the SDK's futures stay where they were made.
#[derive(Debug)]
pub struct Fleet {
    /// What they have done so far.
    pub tallies: Tallies,
    stop: watch::Sender<bool>,
    thread: JoinHandle<Result<Vec<DeviceReport>>>,
}

/// What each device has done so far, for others to see.
#[derive(Debug, Clone)]
pub struct Tallies(Arc<[Tally]>);

#[derive(Debug, Default)]
struct Tally {
    published: AtomicU64,
    acknowledged: AtomicU64,
}

/// What all devices have in common.
#[derive(Debug, Clone)]
struct Setup {
    plan: Plan,
    mqtt: SocketAddr,
    clock: Clock,
    tallies: Tallies,
    stop: watch::Receiver<bool>,
}

impl Fleet {
    /// Starts the devices of `plan`, which publish to the gateway at `mqtt`.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(plan: &Plan, mqtt: SocketAddr, clock: Clock) -> Result<Self> {
        let tallies = Tallies((0..plan.devices).map(|_| Tally::default()).collect());
        let (stop, stopped) = watch::channel(false);
        let setup = Setup { plan: *plan, mqtt, clock, tallies: tallies.clone(), stop: stopped };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let thread = std::thread::Builder::new()
            .name("devices".to_owned())
            .spawn(move || LocalSet::new().block_on(&runtime, run(setup)))?;
        Ok(Self { tallies, stop, thread })
    }

    /// Whether every device has taken all its readings and has them acknowledged.
    pub fn is_finished(&self) -> bool {
        self.thread.is_finished()
    }

    /// Ends those that have not finished, and says what each has done.
    ///
    /// # Errors
    /// If a device failed.
    pub async fn finish(self) -> Result<Vec<DeviceReport>> {
        self.stop.send_replace(true);
        let joining = tokio::task::spawn_blocking(move || self.thread.join());
        joining.await?.map_err(|_| anyhow!("the devices' thread failed"))?
    }
}

impl Tallies {
    /// Readings that the devices have numbered.
    pub fn published(&self) -> u64 {
        self.0.iter().map(|tally| tally.published.load(Ordering::Relaxed)).sum()
    }

    /// Readings that the gateway has acknowledged to them.
    pub fn acknowledged(&self) -> u64 {
        self.0.iter().map(|tally| tally.acknowledged.load(Ordering::Relaxed)).sum()
    }
}

async fn run(setup: Setup) -> Result<Vec<DeviceReport>> {
    let devices = (0..setup.plan.devices).map(|number| {
        let setup = setup.clone();
        tokio::task::spawn_local(async move { device(&setup, number).await })
    });
    // All are started before the first is waited for.
    let devices: Vec<_> = devices.collect();
    let mut reports = Vec::with_capacity(devices.len());
    for device in devices {
        reports.push(device.await.context("a device failed")??);
    }
    Ok(reports)
}

/// One device, from its start to its last acknowledgement.
async fn device(setup: &Setup, number: u32) -> Result<DeviceReport> {
    let name = format!("demo-{number:03}");
    let id = DeviceId::new(&name).context("not a device id")?;
    // A queue in RAM is another one at every start: chance names it.
    let mut chance = Chance(setup.plan.seed.wrapping_mul(31).wrapping_add(u64::from(number)));
    let queue = QueueId(chance.next());

    let mut batch = [0; BATCH_BYTES];
    let batcher = Batcher::new(queue, &SENSORS, &mut batch, BATCH_LIMITS)?;
    let outbox = Outbox::new(batcher, RamQueue::<QUEUE_BYTES>::new(), OUTBOX_SETTINGS)?;
    let device = Device::new(outbox);
    device.set_clock(ClockQuality::Synced);

    let (mut rx, mut tx) = ([0; RX_BYTES], [0; TX_BYTES]);
    let settings = MqttSettings { device: id, credentials: None, keep_alive_s: KEEP_ALIVE_S };
    let mut mqtt = Minimq::new(settings, &mut rx, &mut tx);
    let mut tcp = Tcp { gateway: setup.mqtt };
    let entropy = || chance.next() as u32;
    let on_event = |event| tracing::debug!(device = name, ?event);
    let settings = ClientSettings::default();
    let mut stop = setup.stop.clone();
    let tally = &setup.tallies.0[number as usize];
    tokio::select! {
        never = client::run(&device, id, &mut tcp, &mut mqtt, settings, entropy, on_event) => {
            match never {}
        }
        () = publish(setup, number, &device) => {}
        () = count(tally, &device) => {}
        _ = stop.wait_for(|stop| *stop) => {}
    }
    let Counts { recorded, acknowledged, .. } = device.counts();
    tally.store(device.counts());
    Ok(DeviceReport { device: name.clone(), queue: queue.0, published: recorded, acknowledged })
}

/// Samples as long as the plan says, then waits until everything is acknowledged.
async fn publish(setup: &Setup, number: u32, device: &Device<'_, RamQueue<QUEUE_BYTES>>) {
    let mut signals = Signals::new(setup.plan.seed, number);
    // Devices are not in step.
    let first = Instant::now() + SAMPLE_INTERVAL * number / setup.plan.devices;
    let mut ticks = interval_at(first, SAMPLE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for _ in 0..setup.plan.publishing.as_millis() / SAMPLE_INTERVAL.as_millis() {
        ticks.tick().await;
        for reading in signals.sample(setup.clock.wall().0) {
            // A reading without room is numbered and lost, and the ledger will miss it.
            let _ = device.record(client::now(), &reading);
        }
    }
    device.flush();
    device.drained().await;
}

/// Shows what the device has done; for ever.
async fn count(tally: &Tally, device: &Device<'_, RamQueue<QUEUE_BYTES>>) {
    let mut ticks = tokio::time::interval(COUNT_INTERVAL);
    loop {
        ticks.tick().await;
        tally.store(device.counts());
    }
}

impl Tally {
    fn store(&self, counts: Counts) {
        self.published.store(counts.recorded, Ordering::Relaxed);
        self.acknowledged.store(counts.acknowledged, Ordering::Relaxed);
    }
}

/// The device's network.
#[derive(Debug)]
struct Tcp {
    gateway: SocketAddr,
}

impl Connector for Tcp {
    type Transport<'a> = FromTokio<TcpStream>;
    type Error = std::io::Error;

    async fn connect(&mut self) -> Result<Self::Transport<'_>, Self::Error> {
        let stream = TcpStream::connect(self.gateway).await?;
        stream.set_nodelay(true)?;
        Ok(FromTokio::new(stream))
    }
}
