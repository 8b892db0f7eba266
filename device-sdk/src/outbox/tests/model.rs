//! The outbox against a model of gateways that follow D2 to the letter, under seeds of cuts, lost acknowledgements, full
//! queues, refusals, changes of gateway and reboots.

use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

use wire::batch::BatchReader;
use wire::ids::QueueId;
use wire::reading::{ClockQuality, Quality, Value};

use super::{Reading, SENSORS};
use crate::batcher::{BatchLimits, Batcher};
use crate::outbox::*;
use crate::queue::RamQueue;

const SEEDS: u64 = 3_000;
const STEPS: usize = 400;
/// More than a window's round trips for every reading that a seed can record.
const DRAIN_STEPS: usize = 20_000;

type Device = Outbox<'static, RamQueue<600>>;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }
}

/// A publish on its way.
#[derive(Clone)]
struct Packet {
    payload: Vec<u8>,
    maybe_dup: bool,
}

/// A gateway: what it stored of the device's queue.
#[derive(Default)]
struct Gateway {
    last: u64,
    stored: Vec<(u64, bool)>,
    declared_lost: u64,
}

enum Answer {
    Puback(DeviceSeq),
    Refusal(DeviceSeq, Refusal),
}

/// What a batch says, read as a gateway would.
struct Opened {
    first: u64,
    last: u64,
    lost_before: u64,
    values: Vec<i64>,
}

impl Opened {
    fn of(payload: &[u8]) -> Self {
        let reader = BatchReader::new(payload).expect("a batch");
        let header = *reader.header();
        let value = |reading: Reading| match reading.value {
            Value::Scaled(value) => value,
            Value::Float(_) => panic!("a value of another kind"),
        };
        let values: Vec<_> = reader.map(|reading| value(reading.expect("a reading"))).collect();
        let last = header.first.0 + values.len() as u64 - 1;
        Self { first: header.first.0, last, lost_before: header.lost_before, values }
    }
}

struct World {
    rng: Rng,
    device: Device,
    settings: OutboxSettings,
    limits: BatchLimits,
    gateways: Vec<Gateway>,
    /// Whether the device may find another gateway behind its address, and whether a gateway refuses.
    roams: bool,
    refuses: bool,
    connection: Option<Connection>,
    /// Bytes of every batch that was sent, apart from the flag: they must not change.
    sent: BTreeMap<u64, Vec<u8>>,
    now: MonoMs,
    recorded: u64,
    /// Counts of the boots before this one.
    before: Counts,
}

struct Connection {
    gateway: usize,
    is_first: bool,
    spool_told: bool,
    /// The gateway has refused something: it reads nothing more.
    refused: bool,
    up: VecDeque<Packet>,
    down: VecDeque<Answer>,
}

fn spool(gateway: usize) -> SpoolId {
    SpoolId([u8::try_from(gateway).expect("few gateways") + 1; 16])
}

/// Batches that no gateway ever takes: decided by their content, so that a copy fares no better.
fn is_poison(batch: &Opened) -> bool {
    batch.first.is_multiple_of(11)
}

/// A batcher whose buffer lives as long as the test: a device that boots again needs another one.
fn batcher(limits: BatchLimits) -> Batcher<'static> {
    let buf = std::boxed::Box::leak(std::vec![0; 72].into_boxed_slice());
    Batcher::new(QueueId(7), &SENSORS, buf, limits).expect("large enough")
}

impl World {
    fn new(seed: u64) -> Self {
        let mut rng = Rng(seed);
        let when_full = [WhenFull::DropNewest, WhenFull::DropOldest][rng.below(2) as usize];
        let window = 1 + rng.below(8) as usize;
        let settings = OutboxSettings { when_full, window };
        let limits = BatchLimits { readings: 1 + rng.below(5) as u16, age_ms: rng.below(40) };
        let device = Outbox::new(batcher(limits), RamQueue::new(), settings).expect("fits");
        Self {
            roams: rng.below(2) == 0,
            refuses: rng.below(2) == 0,
            rng,
            device,
            settings,
            limits,
            gateways: (0..3).map(|_| Gateway::default()).collect(),
            connection: None,
            sent: BTreeMap::new(),
            now: MonoMs(0),
            recorded: 0,
            before: Counts::default(),
        }
    }

    fn step(&mut self) {
        match self.rng.below(40) {
            0..10 => self.record(),
            10 => self.device.flush(),
            11 => self.device.poll(self.now),
            12 => {
                let clock =
                    [ClockQuality::Synced, ClockQuality::Uptime][self.rng.below(2) as usize];
                self.device.set_clock(clock);
            }
            13 => self.cut(),
            14 => self.reboot(),
            15..18 => self.connect(),
            18..25 => self.publish(),
            25..32 => self.gateway(),
            _ => self.answer(),
        }
        self.now = self.now + self.rng.below(10);
        assert!(self.device.in_flight() <= self.settings.window);
    }

    /// The value of a reading is its number, so that every copy of it can be told.
    fn record(&mut self) {
        self.recorded += 1;
        let value = Value::Scaled(i64::try_from(self.recorded).expect("few readings"));
        let reading = Reading { sensor: 0, time_ms: 0, value, quality: Quality::Good };
        match self.device.record(self.now, &reading) {
            Ok(seq) => assert_eq!(seq.0, self.recorded),
            Err(error) => assert_eq!(error, RecordError::Full),
        }
    }

    fn cut(&mut self) {
        self.connection = None;
        self.device.disconnected();
    }

    /// The queue is durable, and with it what a durable queue keeps.
    fn reboot(&mut self) {
        self.cut();
        self.device.flush();
        let counts = self.device.counts();
        // What the batcher still holds would be lost with the power: a durable device stops before that.
        if self.device.queue().room() < 72 {
            return;
        }
        let settings = self.settings;
        let fresh = Outbox::new(batcher(self.limits), RamQueue::new(), settings).expect("fits");
        let attachment = self.device.attachment();
        let acknowledged = self.device.acknowledged_through();
        let queue = core::mem::replace(&mut self.device, fresh).into_queue();
        let resume = Resume { attachment, acknowledged, numbered: DeviceSeq(self.recorded) };
        self.device = Outbox::resume(batcher(self.limits), queue, settings, resume).expect("fits");
        self.before.acknowledged += counts.acknowledged;
        self.before.lost += counts.lost;
        self.before.refused += counts.refused;
    }

    fn connect(&mut self) {
        if self.connection.is_some() {
            return;
        }
        let gateway = if self.roams { self.rng.below(3) as usize } else { 0 };
        let (up, down) = (VecDeque::new(), VecDeque::new());
        self.connection = Some(Connection {
            gateway,
            is_first: true,
            spool_told: false,
            refused: false,
            up,
            down,
        });
        self.device.connected();
    }

    fn publish(&mut self) {
        let Some(connection) = &mut self.connection else {
            assert_eq!(self.device.next_publish(), None);
            return;
        };
        if !connection.spool_told {
            assert_eq!(self.device.next_publish(), None);
            connection.spool_told = true;
            assert!(self.device.spool_seen(spool(connection.gateway)));
            return;
        }
        let Some(publish) = self.device.next_publish() else {
            return;
        };
        let mut out = [0; 128];
        let len = self.device.payload(&publish, &mut out).expect("fits");
        let payload = out[..len].to_vec();
        let before = self.sent.insert(publish.first.0, payload.clone());
        // Only after a batch before it was refused for good it may say something else.
        if !self.refuses {
            assert!(before.is_none_or(|before| before == payload), "byte for byte");
        }
        connection.up.push_back(Packet { payload, maybe_dup: publish.maybe_dup });
    }

    /// The gateway handles the next packet.
    fn gateway(&mut self) {
        let Some(connection) = self.connection.as_mut().filter(|connection| !connection.refused)
        else {
            return;
        };
        let Some(packet) = connection.up.pop_front() else {
            return;
        };
        let batch = Opened::of(&packet.payload);
        let first = DeviceSeq(batch.first);
        let refusal = match self.refuses {
            true if is_poison(&batch) => Some(Refusal::Invalid),
            true if self.rng.below(20) == 0 => Some(Refusal::Busy),
            true | false => None,
        };
        if let Some(refusal) = refusal {
            connection.refused = true;
            connection.down.push_back(Answer::Refusal(first, refusal));
            return;
        }
        let gateway = &mut self.gateways[connection.gateway];
        gateway.take(&batch, packet.maybe_dup, connection.is_first, self.roams);
        connection.is_first = false;
        connection.down.push_back(Answer::Puback(first));
    }

    /// The device hears the next answer.
    fn answer(&mut self) {
        match self.connection.as_mut().and_then(|connection| connection.down.pop_front()) {
            Some(Answer::Puback(first)) => self.device.acknowledged(first),
            Some(Answer::Refusal(first, refusal)) => {
                self.device.refused(first, refusal);
                self.cut();
            }
            None => {}
        }
    }

    /// No more faults: everything must arrive, and within bounds.
    fn drain(&mut self) {
        self.device.flush();
        self.device.poll(MonoMs(u64::MAX));
        let steps = (0..DRAIN_STEPS).take_while(|_| {
            self.connect();
            self.publish();
            self.gateway();
            self.answer();
            self.device.flush();
            self.device.counts().waiting() > 0
        });
        assert!(steps.count() < DRAIN_STEPS, "the device is stuck");
    }

    fn check(&self) {
        let mut copies: BTreeMap<u64, Vec<bool>> = BTreeMap::new();
        for gateway in &self.gateways {
            assert!(gateway.stored.is_sorted_by(|a, b| a.0 < b.0), "once, and in order");
            for (seq, maybe_dup) in &gateway.stored {
                copies.entry(*seq).or_default().push(*maybe_dup);
            }
        }
        for (seq, flags) in &copies {
            let plain = flags.iter().filter(|maybe_dup| !**maybe_dup).count();
            assert!(plain <= 1, "{plain} copies of {seq} without a flag");
        }
        let counts = self.device.counts();
        let stored = copies.len() as u64;
        let lost = self.before.lost + counts.lost;
        let refused = self.before.refused + counts.refused;
        assert_eq!(self.recorded, stored + lost + refused, "every reading is somewhere");
        assert_eq!(self.before.acknowledged + counts.acknowledged, stored);
        if !self.roams {
            let [gateway, ..] = self.gateways.as_slice() else { unreachable!() };
            assert_eq!(gateway.declared_lost + gateway.stored.len() as u64, gateway.last);
        }
    }
}

impl Gateway {
    /// D2. A device that stays with its gateway never needs the right to jump.
    fn take(&mut self, batch: &Opened, maybe_dup: bool, is_first: bool, roams: bool) {
        if batch.last <= self.last {
            return;
        }
        let fits = batch.first == self.last + 1 + batch.lost_before;
        let jumps = roams && is_first && batch.first > self.last;
        assert!(
            fits || jumps,
            "refused: {} to {} with {} lost behind {}",
            batch.first,
            batch.last,
            batch.lost_before,
            self.last
        );
        self.declared_lost += batch.lost_before;
        self.last = batch.last;
        for (seq, value) in (batch.first..).zip(&batch.values) {
            assert_eq!(i64::try_from(seq), Ok(*value), "another reading under this number");
            self.stored.push((seq, maybe_dup));
        }
    }
}

#[test]
fn nothing_is_lost_doubled_or_reordered_unnoticed() {
    let (mut lost, mut refused, mut flagged, mut boots) = (0, 0, 0, 0);
    for seed in 0..SEEDS {
        let run = std::panic::catch_unwind(|| {
            let mut world = World::new(seed);
            for _ in 0..STEPS {
                world.step();
            }
            world.drain();
            world.check();
            world
        });
        let world = run.unwrap_or_else(|_| panic!("seed {seed}"));
        lost += world.before.lost + world.device.counts().lost;
        refused += world.before.refused + world.device.counts().refused;
        boots += u64::from(world.before.acknowledged > 0);
        let stored = world.gateways.iter().flat_map(|gateway| &gateway.stored);
        flagged += stored.filter(|(_, maybe_dup)| *maybe_dup).count();
    }
    assert!(lost > 1_000 && refused > 1_000 && flagged > 1_000 && boots > 100, "faults happened");
}
