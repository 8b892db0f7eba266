//! A device that numbers its readings, as `cv-queue` and `cv-seq` let any MQTT 5 client do: it keeps what is not
//! acknowledged, and after every reconnect begins again with the oldest of it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};

use crate::mqtt::{Client, Packet, Publish, Received, Version, publish_packet};
use crate::wait::PATIENCE;

/// Between two attempts to connect.
const RECONNECT_DELAY: Duration = Duration::from_millis(20);

/// A publish that is not acknowledged for so long means that the connection is no good.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// What a device does.
#[derive(Debug, Clone)]
pub struct DevicePlan {
    /// Where it publishes.
    pub mqtt: SocketAddr,
    /// Its client identifier, which becomes its records' key.
    pub client_id: String,
    /// The id of its queue.
    pub queue: u64,
    /// Publishes that it keeps unacknowledged at a time.
    pub window: usize,
    /// Between two publishes.
    pub pause: Duration,
}

/// A device at work.
#[derive(Debug)]
pub struct Device {
    progress: Arc<Progress>,
    thread: JoinHandle<Result<DeviceReport>>,
}

/// What became of it. Readings 1 to `sent` were sent, those up to `acked` acknowledged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceReport {
    /// Its client identifier.
    pub client_id: String,
    /// The id of its queue.
    pub queue: u64,
    /// The last reading acknowledged.
    pub acked: u64,
    /// The last reading sent.
    pub sent: u64,
    /// Connections that were accepted.
    pub connections: u32,
    /// The longest wait for an acknowledgement.
    pub ack_time_max: Duration,
}

#[derive(Debug, Default)]
struct Progress {
    acked: AtomicU64,
    stop: AtomicBool,
}

impl DevicePlan {
    /// The text of a reading, by which a test knows it again.
    #[must_use]
    pub fn reading(client_id: &str, seq: u64) -> String {
        format!("{client_id} {seq}")
    }

    /// Starts it.
    #[must_use]
    pub fn start(self) -> Device {
        let progress = Arc::new(Progress::default());
        let thread = std::thread::spawn({
            let progress = Arc::clone(&progress);
            move || Worker::new(self, progress).run()
        });
        Device { progress, thread }
    }
}

impl Device {
    /// The last reading acknowledged so far.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.progress.acked.load(Ordering::Acquire)
    }

    /// Stops making readings, waits until all are acknowledged, and reports.
    ///
    /// # Errors
    /// If the gateway refused one, acknowledged out of order, or did not acknowledge the last ones.
    pub fn finish(self) -> Result<DeviceReport> {
        self.progress.stop.store(true, Ordering::Release);
        match self.thread.join() {
            Ok(report) => report,
            Err(_) => bail!("a device's thread panicked"),
        }
    }
}

struct Worker {
    plan: DevicePlan,
    progress: Arc<Progress>,
    report: DeviceReport,
    topic: String,
    queue: String,
}

/// How a connection ended.
enum Ended {
    Done,
    Lost,
}

impl Worker {
    fn new(plan: DevicePlan, progress: Arc<Progress>) -> Self {
        let report = DeviceReport {
            client_id: plan.client_id.clone(),
            queue: plan.queue,
            acked: 0,
            sent: 0,
            connections: 0,
            ack_time_max: Duration::ZERO,
        };
        let (topic, queue) = (format!("load/{}", plan.client_id), plan.queue.to_string());
        Self { plan, progress, report, topic, queue }
    }

    fn run(mut self) -> Result<DeviceReport> {
        let mut stopped_at = None;
        loop {
            if let Ok(client) = Client::open(self.plan.mqtt, Version::V5, &self.plan.client_id) {
                self.report.connections += 1;
                if let Ended::Done = self.converse(client)? {
                    return Ok(self.report);
                }
            }
            if self.is_stopping() {
                let since = *stopped_at.get_or_insert_with(Instant::now);
                ensure!(
                    since.elapsed() < PATIENCE,
                    "{} cannot get its last readings acknowledged: {:?}",
                    self.plan.client_id,
                    self.report
                );
            }
            std::thread::sleep(RECONNECT_DELAY);
        }
    }

    /// One connection, from the oldest reading that is not acknowledged.
    fn converse(&mut self, mut client: Client) -> Result<Ended> {
        let mut in_flight = VecDeque::new();
        let mut next = self.report.acked + 1;
        let mut due = Instant::now();
        loop {
            let may_add = !self.is_stopping();
            let mut bytes = Vec::new();
            while in_flight.len() < self.plan.window
                && (next <= self.report.sent || (may_add && due <= Instant::now()))
            {
                if next > self.report.sent {
                    due = Instant::now() + self.plan.pause;
                }
                bytes.extend(self.publish(next));
                in_flight.push_back((next, Instant::now()));
                self.report.sent = self.report.sent.max(next);
                next += 1;
            }
            if client.send(&bytes).is_err() {
                return Ok(Ended::Lost);
            }
            if in_flight.is_empty() && self.is_stopping() && self.report.acked == self.report.sent {
                return Ok(Ended::Done);
            }
            let patience = if in_flight.len() < self.plan.window && may_add {
                due.saturating_duration_since(Instant::now()).max(Duration::from_millis(1))
            } else {
                ACK_TIMEOUT
            };
            match client.poll(patience) {
                Ok(Received::Packet(packet)) => {
                    if let Ended::Lost = self.take(packet, &mut in_flight)? {
                        return Ok(Ended::Lost);
                    }
                }
                Ok(Received::Nothing) if is_overdue(&in_flight) => return Ok(Ended::Lost),
                Ok(Received::Nothing) => {}
                Ok(Received::Closed) | Err(_) => return Ok(Ended::Lost),
            }
        }
    }

    /// An acknowledgement, which must be that of the oldest publish [MQTT-4.6.0-2], or the end.
    fn take(&mut self, packet: Packet, in_flight: &mut VecDeque<(u64, Instant)>) -> Result<Ended> {
        match packet {
            Packet::Puback { packet_id, reason: 0 | 0x10 } => {
                let Some((seq, sent_at)) = in_flight.pop_front() else {
                    bail!("PUBACK {packet_id} for nothing");
                };
                ensure!(
                    packet_id == packet_id_of(seq),
                    "PUBACK {packet_id} out of order, expected that of reading {seq}"
                );
                self.report.acked = seq;
                self.report.ack_time_max = self.report.ack_time_max.max(sent_at.elapsed());
                self.progress.acked.store(seq, Ordering::Release);
                Ok(Ended::Done)
            }
            // The gateway is stopping: the next connection goes on.
            Packet::Disconnect { reason: 0x8b } => Ok(Ended::Lost),
            refusal => bail!("{} was refused: {refusal:?}", self.plan.client_id),
        }
    }

    fn publish(&self, seq: u64) -> Vec<u8> {
        let (number, reading) = (seq.to_string(), DevicePlan::reading(&self.plan.client_id, seq));
        let publish = Publish {
            topic: &self.topic,
            payload: reading.as_bytes(),
            qos: 1,
            packet_id: packet_id_of(seq),
            properties: &[("cv-queue", &self.queue), ("cv-seq", &number)],
        };
        publish_packet(Version::V5, &publish)
    }

    fn is_stopping(&self) -> bool {
        self.progress.stop.load(Ordering::Acquire)
    }
}

/// 1 to 65,535, over and over.
fn packet_id_of(seq: u64) -> u16 {
    (seq % u64::from(u16::MAX)) as u16 + 1
}

fn is_overdue(in_flight: &VecDeque<(u64, Instant)>) -> bool {
    let oldest = in_flight.front();
    oldest.is_some_and(|(_, sent_at)| sent_at.elapsed() >= ACK_TIMEOUT)
}
