//! The gateway against a broker that keeps rules B1 to B3, on virtual time, with crashes and cuts from a seed.

use std::collections::{BTreeMap, VecDeque};

use wire::batch::{BatchEncoder, BatchError, BatchHeader};
use wire::ids::{SpoolId, TopicId};
use wire::limits::{CONTROL_TOPIC, DEFAULT_TOPIC};
use wire::reading::{ClockQuality, Quality, Reading, Sensor, Value, ValueKind};
use wire::record_batch::RecordBatchHeader;
use wire::uplink::{State, StreamKey, StreamState, TopicInfo};

use crate::gateway::*;
use crate::spool::memory::MemoryStore;

/// Most readings in a batch of a device.
const BATCH_MAX: u64 = 5;

/// SplitMix64: small, seeded, good enough to shuffle faults.
pub(super) struct Rng(pub(super) u64);

impl Rng {
    pub(super) fn below(&mut self, n: u64) -> u64 {
        self.random() % n
    }
}

impl Entropy for Rng {
    fn random(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

/// The log under rules B1 to B3. Frames carry their readings in plain sight.
#[derive(Default)]
pub(super) struct Broker {
    streams: BTreeMap<StreamKey, StreamState>,
    pending: Vec<(Outgoing, bool)>,
    durable: BTreeMap<StreamKey, StreamState>,
    log: Vec<Outgoing>,
    appended: Vec<Outgoing>,
}

impl Broker {
    pub(super) fn append(&mut self, frame: Outgoing) {
        let state = self.streams.get(&frame.batch.stream).copied();
        let state = state.unwrap_or(StreamState::UNKNOWN);
        let batch = frame.batch;
        let fits =
            batch.epoch == state.epoch && batch.base == state.next() && batch.prev_tag == state.tag;
        if fits {
            let after = StreamState { last: Some(batch.last()), tag: batch.tag, ..state };
            self.streams.insert(batch.stream, after);
            self.appended.push(frame.clone());
        }
        self.pending.push((frame, fits));
    }

    /// Everything appended is durable now; the answers.
    pub(super) fn sync(&mut self) -> Vec<State> {
        self.durable = self.streams.clone();
        self.log.append(&mut self.appended);
        let answer = |(frame, _): (Outgoing, bool)| State {
            stream: frame.batch.stream,
            answers: frame.batch.tag,
            state: self.durable.get(&frame.batch.stream).copied(),
            previous: None,
        };
        self.pending.drain(..).map(answer).collect()
    }

    pub(super) fn crash(&mut self) {
        self.streams = self.durable.clone();
        self.pending.clear();
        self.appended.clear();
    }

    /// (device, sequence) of everything durable on the live topic, in the order of the log.
    pub(super) fn readings(&self) -> Vec<(Bytes, u64)> {
        let live = self.log.iter().filter(|frame| frame.batch.lane == Lane::Live);
        live.flat_map(|frame| frame.rows.readings_of(&frame.batch)).collect()
    }
}

pub(super) fn facts() -> WelcomeFacts {
    let topics = [
        TopicInfo { name: DEFAULT_TOPIC, id: TopicId([1; 16]), partitions: 3 },
        TopicInfo { name: CONTROL_TOPIC, id: TopicId([2; 16]), partitions: 1 },
    ];
    WelcomeFacts::new(&topics, &[], 64).unwrap()
}

pub(super) fn open(store: MemoryStore) -> Gateway<MemoryStore> {
    let settings = GatewaySettings {
        gateway: GatewayId::new("g1").unwrap(),
        quota: Quota::new(64 << 20),
        record_interval_ms: 60_000,
    };
    Gateway::open(settings, store, MonoMs(0)).unwrap()
}

pub(super) fn now(ms: u64) -> Now {
    Now { mono: MonoMs(ms), wall: UnixMs(1_700_000_000_000 + ms as i64) }
}

pub(super) fn publish(device: u64, seq: u64, first: bool) -> ClientBatch {
    let numbered = Numbered { first: DeviceSeq(seq), count: 1, lost_before: 0 };
    let mut queues_seen = QueuesSeen::default();
    if !first {
        queues_seen.note(QueueId(device));
    }
    ClientBatch {
        token: ClientToken(device),
        device: Bytes::from(format!("dev{device}")),
        queues_seen,
        arrivals: vec![Arrival {
            topic: Bytes::from_static(b"plant/1/temp"),
            payload: Bytes::from(seq.to_string()),
            properties: Vec::new(),
            sequence: Some((QueueId(device), numbered)),
            maybe_dup: false,
            acknowledged: true,
        }],
    }
}

/// A device's batch of readings `first` to `first + count - 1`, whose values are their numbers.
pub(super) fn publish_batch(device: u64, first: u64, count: u64, fresh: bool) -> ClientBatch {
    let mut batch = publish(device, first, fresh);
    let arrival = &mut batch.arrivals[0];
    arrival.topic = Bytes::from(format!("culvert/v1/dev{device}/batch"));
    arrival.sequence = None;
    arrival.payload = payload(device, first, count, 0);
    batch
}

pub(super) fn payload(queue: u64, first: u64, count: u64, lost_before: u64) -> Bytes {
    let header = BatchHeader {
        queue: QueueId(queue),
        first: DeviceSeq(first),
        lost_before,
        clock: ClockQuality::Synced,
        base_time_ms: 1_700_000_000_000,
    };
    let kind = ValueKind::Scaled { decimals: 0 };
    let sensors = [Sensor { name: "n", unit: "", kind }];
    let mut buf = vec![0; 128 + 16 * count as usize];
    let mut encoder = BatchEncoder::new(&mut buf, &header, &sensors).unwrap();
    for seq in first..first + count {
        let value = Value::Scaled(seq as i64);
        let time_ms = 1_700_000_000_000 + seq as i64;
        encoder.push(&Reading { sensor: 0, time_ms, value, quality: Quality::Good }).unwrap();
    }
    Bytes::copy_from_slice(encoder.finish())
}

/// A device that publishes one thing after the other: numbered publishes and batches, each until it is acknowledged.
#[derive(Clone)]
pub(super) struct Sender {
    /// The first reading of what it publishes next.
    next: u64,
    /// Readings in it; 0 is a plain publish.
    batch: u64,
    /// Whether its connection is new.
    fresh: bool,
    /// The last reading that the gateway said is durable.
    durable: u64,
}

impl Sender {
    fn publish(&self, device: u64) -> ClientBatch {
        match self.batch {
            0 => publish(device, self.next, self.fresh),
            count => publish_batch(device, self.next, count, self.fresh),
        }
    }

    fn last(&self) -> u64 {
        self.next + self.batch.max(1) - 1
    }
}

/// One gateway, one broker, the frames between them, and devices that send each reading until it is acknowledged.
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) ms: u64,
    pub(super) gateway: Gateway<MemoryStore>,
    pub(super) broker: Broker,
    pub(super) session: Option<SessionId>,
    pub(super) sessions: u64,
    pub(super) wire: VecDeque<Outgoing>,
    pub(super) answers: VecDeque<State>,
    pub(super) devices: Vec<Sender>,
}

impl World {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed),
            ms: 0,
            gateway: open(MemoryStore::new(SpoolId([9; 16]))),
            broker: Broker::default(),
            session: None,
            sessions: 0,
            wire: VecDeque::new(),
            answers: VecDeque::new(),
            devices: vec![Sender { next: 1, batch: 0, fresh: true, durable: 0 }; 5],
        }
    }

    pub(super) fn commit(&mut self) {
        let verdicts = self.gateway.commit(now(self.ms), &mut self.rng).unwrap();
        for verdict in verdicts {
            let device = verdict.token.0 as usize;
            assert_eq!((verdict.stored, verdict.rejected), (1, None));
            let sender = &mut self.devices[device];
            sender.durable = sender.last();
            // The acknowledgement may be lost on its way: then the device connects anew and sends the same again.
            sender.fresh = self.rng.below(4) == 0;
            if !sender.fresh {
                sender.next = sender.durable + 1;
                sender.batch = self.rng.below(BATCH_MAX + 1);
            }
        }
    }

    /// A batch that cannot be taken: over what is stored and beyond, or bytes that are none.
    fn refuse(&mut self, device: u64) {
        let sender = &mut self.devices[device as usize];
        if sender.fresh || sender.next < 2 {
            return;
        }
        let next = sender.next;
        sender.fresh = true;
        let before = self.gateway.status(now(self.ms));
        let mut overlap = publish_batch(device, next - 1, 3, false);
        let (expected, first) = (DeviceSeq(next), DeviceSeq(next - 1));
        let mut rejection = Rejection::OutOfOrder { expected, first };
        if self.rng.below(2) == 0 {
            let payload = &mut overlap.arrivals[0].payload;
            *payload = payload.slice(..payload.len() - 1);
            rejection = Rejection::Batch(BatchFault::Unreadable(BatchError::Length));
        }
        self.gateway.stage(overlap);
        let verdicts = self.gateway.commit(now(self.ms), &mut self.rng).unwrap();
        assert_eq!((verdicts[0].stored, verdicts[0].rejected), (0, Some(rejection)));
        // Trims that were due went along; of the batch there is nothing.
        let after = self.gateway.status(now(self.ms)).ledger;
        assert_eq!(after.received, before.ledger.received);
        assert_eq!(after.deduplicated, before.ledger.deduplicated);
    }

    pub(super) fn connect(&mut self) {
        self.cut();
        self.sessions += 1;
        let id = SessionId(self.sessions);
        self.gateway.handle_uplink(now(self.ms), UplinkEvent::Opened(id, facts()));
        self.session = Some(id);
    }

    pub(super) fn cut(&mut self) {
        if let Some(id) = self.session.take() {
            self.gateway.handle_uplink(now(self.ms), UplinkEvent::Closed(id));
        }
        // Frames under way may still arrive; answers do not.
        for frame in self.wire.drain(..) {
            if self.rng.below(2) == 0 {
                self.broker.append(frame);
            }
        }
        self.broker.pending.clear();
        self.answers.clear();
    }

    pub(super) fn step(&mut self) {
        self.ms += self.rng.below(80);
        match self.rng.below(100) {
            0..27 => {
                let device = self.rng.below(5);
                self.gateway.stage(self.devices[device as usize].publish(device));
                self.commit();
            }
            27..30 => {
                let device = self.rng.below(5);
                self.refuse(device);
            }
            30..50 => self.flow_out(),
            50..65 => {
                if let Some(frame) = self.wire.pop_front() {
                    self.broker.append(frame);
                }
            }
            65..75 => self.answers.extend(self.broker.sync()),
            75..90 => self.flow_back(),
            90..93 => self.connect(),
            93..95 => self.cut(),
            95..97 => {
                self.cut();
                self.broker.crash();
            }
            97..98 => {
                self.cut();
                let store =
                    std::mem::replace(&mut self.gateway, open(MemoryStore::new(SpoolId([0; 16]))));
                self.gateway = open(store.into_store().crashed());
            }
            _ => {
                self.ms += 61_000;
                self.gateway.handle_timeout(now(self.ms));
            }
        }
    }

    pub(super) fn flow_out(&mut self) {
        match self.gateway.wants_commit() {
            Due::Now => self.commit(),
            Due::At(at) if at.0 <= self.ms => self.commit(),
            Due::At(_) | Due::Never => {}
        }
        while let Some(frame) = self.gateway.take_batch(MonoMs(self.ms)).unwrap() {
            let built = frame.rows.build(&frame.batch, &GatewayId::new("g1").unwrap()).unwrap();
            let header = RecordBatchHeader::parse(&built).unwrap();
            header.check_crc(&built).unwrap();
            assert_eq!(header.record_count, frame.batch.count);
            self.wire.push_back(frame);
        }
    }

    pub(super) fn flow_back(&mut self) {
        if let Some(state) = self.answers.pop_front() {
            self.gateway.handle_uplink(now(self.ms), UplinkEvent::State(state));
        }
    }

    /// The last reading of each device that the gateway said is durable.
    pub(super) fn durable(&self) -> Vec<u64> {
        self.devices.iter().map(|sender| sender.durable).collect()
    }

    /// No more faults: everything must drain.
    pub(super) fn settle(&mut self) {
        self.connect();
        for _ in 0..2_000 {
            self.ms += 100;
            self.flow_out();
            while let Some(frame) = self.wire.pop_front() {
                self.broker.append(frame);
            }
            self.answers.extend(self.broker.sync());
            while !self.answers.is_empty() {
                self.flow_back();
            }
        }
    }

    pub(super) fn check(&self) {
        let status = self.gateway.status(now(self.ms));
        assert_eq!(status.alarm, None);
        assert!(status.ledger.balances(status.spooled), "{status:?}");
        let mut last = BTreeMap::new();
        for (device, seq) in self.broker.readings() {
            let before = last.insert(device.clone(), seq).unwrap_or(0);
            assert_eq!(seq, before + 1, "{device:?}: once and in order");
        }
    }
}
