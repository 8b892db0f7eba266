//! The gateway against a broker that keeps rules B1 to B3, on virtual time, with crashes and cuts from a seed.

use std::collections::{BTreeMap, VecDeque};

use wire::ids::{SpoolId, TopicId};
use wire::limits::{CONTROL_TOPIC, DEFAULT_TOPIC};
use wire::record_batch::RecordBatchHeader;
use wire::uplink::{RefusedCode, State, StreamKey, StreamState, TopicInfo};

use super::*;
use crate::spool::memory::MemoryStore;
use crate::spool::segment::SegmentWriter;

/// SplitMix64: small, seeded, good enough to shuffle faults.
struct Rng(u64);

impl Rng {
    fn below(&mut self, n: u64) -> u64 {
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
struct Broker {
    streams: BTreeMap<StreamKey, StreamState>,
    pending: Vec<(Outgoing, bool)>,
    durable: BTreeMap<StreamKey, StreamState>,
    log: Vec<Outgoing>,
    appended: Vec<Outgoing>,
}

impl Broker {
    fn append(&mut self, frame: Outgoing) {
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
    fn sync(&mut self) -> Vec<State> {
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

    fn crash(&mut self) {
        self.streams = self.durable.clone();
        self.pending.clear();
        self.appended.clear();
    }

    /// (device, sequence) of everything durable on the live topic, in the order of the log.
    fn readings(&self) -> Vec<(Bytes, u64)> {
        let live = self.log.iter().filter(|frame| frame.batch.lane == Lane::Live);
        live.flat_map(|frame| frame.rows.readings_of(&frame.batch)).collect()
    }
}

fn facts() -> WelcomeFacts {
    let topics = [
        TopicInfo { name: DEFAULT_TOPIC, id: TopicId([1; 16]), partitions: 3 },
        TopicInfo { name: CONTROL_TOPIC, id: TopicId([2; 16]), partitions: 1 },
    ];
    WelcomeFacts::new(&topics, &[], 64).unwrap()
}

fn open(store: MemoryStore) -> Gateway<MemoryStore> {
    let settings = GatewaySettings {
        gateway: GatewayId::new("g1").unwrap(),
        quota: Quota::new(64 << 20),
        record_interval_ms: 60_000,
    };
    Gateway::open(settings, store, MonoMs(0)).unwrap()
}

fn now(ms: u64) -> Now {
    Now { mono: MonoMs(ms), wall: UnixMs(1_700_000_000_000 + ms as i64) }
}

fn publish(device: u64, seq: u64, first: bool) -> ClientBatch {
    let numbered = Numbered { first: DeviceSeq(seq), count: 1, lost_before: 0 };
    ClientBatch {
        token: ClientToken(device),
        device: Bytes::from(format!("dev{device}")),
        first_of_connection: first,
        arrivals: vec![Arrival {
            topic: Bytes::from_static(b"plant/1/temp"),
            payload: Bytes::from(seq.to_string()),
            properties: Vec::new(),
            sequence: Some((QueueId(device), numbered)),
            acknowledged: true,
        }],
    }
}

/// One gateway, one broker, the frames between them, and devices that send each reading until it is acknowledged.
struct World {
    rng: Rng,
    ms: u64,
    gateway: Gateway<MemoryStore>,
    broker: Broker,
    session: Option<SessionId>,
    sessions: u64,
    wire: VecDeque<Outgoing>,
    answers: VecDeque<State>,
    /// Per device, the next sequence to send and whether its connection is new.
    devices: Vec<(u64, bool)>,
    acknowledged: Vec<u64>,
}

impl World {
    fn new(seed: u64) -> Self {
        Self {
            rng: Rng(seed),
            ms: 0,
            gateway: open(MemoryStore::new(SpoolId([9; 16]))),
            broker: Broker::default(),
            session: None,
            sessions: 0,
            wire: VecDeque::new(),
            answers: VecDeque::new(),
            devices: vec![(1, true); 5],
            acknowledged: vec![0; 5],
        }
    }

    fn commit(&mut self) {
        let verdicts = self.gateway.commit(now(self.ms), &mut self.rng).unwrap();
        for verdict in verdicts {
            let device = verdict.token.0 as usize;
            assert_eq!((verdict.stored, verdict.rejected), (1, None));
            let (next, fresh) = &mut self.devices[device];
            // The acknowledgement may be lost on its way: then the device connects anew and sends again.
            if self.rng.below(4) == 0 {
                *fresh = true;
            } else {
                (*next, *fresh) = (*next + 1, false);
            }
            self.acknowledged[device] = self.acknowledged[device].max(*next - u64::from(!*fresh));
        }
    }

    fn connect(&mut self) {
        self.cut();
        self.sessions += 1;
        let id = SessionId(self.sessions);
        self.gateway.handle_uplink(now(self.ms), UplinkEvent::Opened(id, facts()));
        self.session = Some(id);
    }

    fn cut(&mut self) {
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

    fn step(&mut self) {
        self.ms += self.rng.below(80);
        match self.rng.below(100) {
            0..30 => {
                let device = self.rng.below(5);
                let (next, first) = self.devices[device as usize];
                self.gateway.stage(publish(device, next, first));
                self.commit();
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

    fn flow_out(&mut self) {
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

    fn flow_back(&mut self) {
        if let Some(state) = self.answers.pop_front() {
            self.gateway.handle_uplink(now(self.ms), UplinkEvent::State(state));
        }
    }

    /// No more faults: everything must drain.
    fn settle(&mut self) {
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

    fn check(&self) {
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

#[test]
fn every_acknowledged_reading_reaches_the_log_once_and_in_order() {
    for seed in 0..400 {
        let mut world = World::new(seed);
        for _ in 0..400 {
            world.step();
        }
        world.check();
        world.settle();
        world.check();
        let status = world.gateway.status(now(world.ms));
        assert_eq!((status.spooled, status.window), (0, 0), "seed {seed}: all is drained");
        assert_eq!(status.ledger.delivered, world.broker.readings().len() as u64, "seed {seed}");
        let mut stored = BTreeMap::new();
        for (device, seq) in world.broker.readings() {
            stored.insert(device, seq);
        }
        for (device, acknowledged) in world.acknowledged.iter().enumerate() {
            let last = stored.get(format!("dev{device}").as_bytes()).copied().unwrap_or(0);
            assert!(last >= acknowledged.saturating_sub(1), "seed {seed}: dev{device} lost one");
        }
    }
}

#[test]
fn no_data_frame_leaves_before_the_session_record_is_acknowledged() {
    let mut world = World::new(1);
    world.gateway.stage(publish(0, 1, true));
    world.commit();
    world.connect();
    world.flow_out();
    assert!(!world.wire.is_empty());
    assert!(world.wire.iter().all(|frame| frame.batch.lane == Lane::Control));
    world.ms += 10_000;
    let before = world.wire.len();
    world.flow_out();
    assert_eq!(world.wire.len(), before, "nothing more until the record is acknowledged");
    world.settle();
    assert_eq!(world.broker.readings().len(), 1);
}

/// Two gateways on copies of one spool: the second one to speak finds a tag that it did not send and stops.
#[test]
fn a_cloned_spool_is_caught_before_it_sends_data() {
    let mut world = World::new(2);
    world.settle();
    let clone = open(world.gateway.into_store().crashed());
    world.gateway = open(MemoryStore::new(SpoolId([0; 16])));
    let original = clone.into_store();
    let copy = original.clone();
    world.gateway = open(original);
    world.settle();
    world.gateway = open(copy);
    world.gateway.stage(publish(0, 1, true));
    world.commit();
    let before = world.broker.readings().len();
    world.settle();
    let status = world.gateway.status(now(world.ms));
    assert!(matches!(status.alarm, Some(Alarm::Forked { .. })), "{status:?}");
    assert_eq!(world.broker.readings().len(), before);
    assert_eq!(status.spooled, 1, "the reading is kept");
}

#[test]
fn a_log_that_forgot_stops_the_uplink() {
    let mut world = World::new(3);
    world.gateway.stage(publish(0, 1, true));
    world.commit();
    world.settle();
    world.broker = Broker::default();
    world.gateway.stage(publish(1, 1, true));
    world.commit();
    world.settle();
    let status = world.gateway.status(now(world.ms));
    assert!(matches!(status.alarm, Some(Alarm::Regressed { .. })), "{status:?}");
    assert_eq!(status.spooled, 1, "the reading is kept");
}

#[test]
fn a_topic_made_anew_stops_the_uplink() {
    let mut world = World::new(4);
    world.gateway.stage(publish(0, 1, true));
    world.commit();
    world.settle();
    let mut other = facts();
    other.topics[1].1 = TopicId([99; 16]);
    world.cut();
    world.gateway.handle_uplink(now(world.ms), UplinkEvent::Opened(SessionId(99), other));
    let alarm = world.gateway.status(now(world.ms)).alarm;
    assert_eq!(alarm, Some(Alarm::TopicChanged { topic: DEFAULT_TOPIC.into() }));
}

#[test]
fn a_refusal_for_now_is_tried_again_and_one_for_ever_stops() {
    let mut world = World::new(5);
    world.connect();
    world.flow_out();
    let frame = world.wire.pop_front().unwrap();
    let refused = |permanent| UplinkEvent::Refused {
        state: State {
            stream: frame.batch.stream,
            answers: frame.batch.tag,
            state: None,
            previous: None,
        },
        code: RefusedCode::Unavailable,
        permanent,
        detail: "disk full".into(),
    };
    world.gateway.handle_uplink(now(world.ms), refused(false));
    world.flow_out();
    assert!(world.wire.is_empty(), "paused");
    world.ms = world.gateway.next_deadline(MonoMs(world.ms)).expect("a retry is due").0;
    world.flow_out();
    assert_eq!(world.wire.pop_front().unwrap().batch, frame.batch);
    world.gateway.handle_uplink(now(world.ms), refused(true));
    let alarm = world.gateway.status(now(world.ms)).alarm;
    assert!(matches!(alarm, Some(Alarm::Refused { .. })), "{alarm:?}");
}

#[test]
fn a_hole_or_overlap_is_refused_and_nothing_behind_it_is_looked_at() {
    let mut gateway = open(MemoryStore::new(SpoolId([9; 16])));
    let mut batch = publish(0, 1, true);
    for seq in [2, 4, 3] {
        batch.arrivals.extend(publish(0, seq, false).arrivals);
    }
    gateway.stage(batch);
    let verdicts = gateway.commit(now(0), &mut Rng(1)).unwrap();
    let rejected = Some(Rejection::OutOfOrder { expected: DeviceSeq(3) });
    assert_eq!(verdicts, [Verdict { token: ClientToken(0), stored: 2, rejected }]);
    assert_eq!(gateway.status(now(0)).spooled, 2);
}

#[test]
fn a_full_spool_rejects_keeps_what_it_has_and_recovers() {
    let mut store = MemoryStore::new(SpoolId([9; 16]));
    store.set_room(60);
    let mut gateway = open(store);
    gateway.stage(publish(0, 1, true));
    let stored = gateway.commit(now(0), &mut Rng(1)).unwrap()[0];
    assert_eq!((stored.stored, stored.rejected), (1, None));
    gateway.stage(publish(0, 2, false));
    let full = gateway.commit(now(0), &mut Rng(1)).unwrap()[0];
    assert_eq!((full.stored, full.rejected), (0, Some(Rejection::Full)));
    let mut store = gateway.into_store();
    store.set_room(10_000);
    let mut gateway = open(store);
    gateway.stage(publish(0, 2, true));
    let again = gateway.commit(now(0), &mut Rng(1)).unwrap()[0];
    assert_eq!((again.stored, again.rejected), (1, None), "deduplication was rolled back too");
    assert_eq!(gateway.status(now(0)).spooled, 2);
}

#[test]
fn beyond_the_budget_qos_1_is_rejected_and_qos_0_is_counted() {
    let mut gateway = open(MemoryStore::new(SpoolId([9; 16])));
    let big = |acknowledged| {
        let mut batch = publish(0, 1, true);
        batch.arrivals[0].payload = Bytes::from(vec![0; 61 << 20]);
        batch.arrivals[0].acknowledged = acknowledged;
        batch.arrivals[0].sequence = None;
        batch
    };
    gateway.stage(big(true));
    let verdict = gateway.commit(now(0), &mut Rng(1)).unwrap()[0];
    assert_eq!((verdict.stored, verdict.rejected), (0, Some(Rejection::Full)));
    gateway.stage(big(false));
    let verdict = gateway.commit(now(0), &mut Rng(1)).unwrap()[0];
    assert_eq!((verdict.stored, verdict.rejected), (1, None));
    let ledger = gateway.status(now(0)).ledger;
    assert_eq!((ledger.received, ledger.dropped_full), (1, 1));
    assert!(ledger.balances(0));
}

#[test]
fn a_failed_sync_gives_no_verdict() {
    let mut store = MemoryStore::new(SpoolId([9; 16]));
    store.fail_syncs();
    let mut gateway = open(store);
    gateway.stage(publish(0, 1, true));
    assert!(matches!(gateway.commit(now(0), &mut Rng(1)), Err(StoreError::Disk(_))));
}

#[test]
fn a_damaged_segment_is_kept_and_stops_the_uplink() {
    let mut store = MemoryStore::new(SpoolId([9; 16]));
    let mut writer = SegmentWriter::new(Lane::Live, RowNo::FIRST);
    writer.push(&Row {
        received: UnixMs(0),
        device: Bytes::from_static(b"dev0"),
        topic: Bytes::new(),
        sequence: None,
        maybe_dup: false,
        properties: Vec::new(),
        payload: Bytes::new(),
    });
    let (mut segments, _) = writer.finish();
    segments[0].crc ^= 1;
    store.begin().unwrap();
    store.put_segment(&segments[0]).unwrap();
    store.put_ledger(&Ledger { received: 1, ..Ledger::default() }).unwrap();
    store.commit().unwrap();
    let mut world = World::new(6);
    world.gateway = open(store);
    world.settle();
    let status = world.gateway.status(now(world.ms));
    assert!(matches!(status.alarm, Some(Alarm::Damaged { .. })), "{status:?}");
    assert_eq!((status.spooled, world.broker.readings().len()), (1, 0));
}

#[test]
fn a_welcome_without_our_topics_is_no_welcome() {
    let telemetry = TopicInfo { name: DEFAULT_TOPIC, id: TopicId([1; 16]), partitions: 3 };
    assert_eq!(WelcomeFacts::new(&[telemetry], &[], 1), None);
}

/// A rolled-back transaction's row numbers are given to other readings: what was read for them must be forgotten.
#[test]
fn readings_of_a_rolled_back_commit_are_never_sent() {
    let mut world = World::new(7);
    world.settle();
    let mut big = publish(0, 7_777, true);
    big.arrivals[0].properties = vec![(Bytes::from_static(b"pad"), Bytes::from(vec![0; 5_000]))];
    world.gateway.store_mut().set_room(1_000);
    world.gateway.stage(big);
    let verdict = world.gateway.commit(now(world.ms), &mut world.rng).unwrap()[0];
    assert_eq!(verdict.rejected, Some(Rejection::Full));
    world.gateway.store_mut().set_room(u64::MAX);
    world.gateway.stage(publish(0, 1, true));
    world.commit();
    world.flow_out();
    while let Some(frame) = world.wire.pop_front() {
        world.broker.append(frame);
    }
    world.broker.sync();
    assert_eq!(world.broker.readings(), [(Bytes::from_static(b"dev0"), 1)]);
}

/// A broker that does not know the topic yet (it restarts with an old list, say) says nothing about what is stored.
#[test]
fn a_refusal_without_a_state_is_no_regression() {
    let mut world = World::new(8);
    world.gateway.stage(publish(0, 1, true));
    world.commit();
    world.settle();
    world.gateway.stage(publish(0, 2, false));
    world.commit();
    world.flow_out();
    let frame = world.wire.pop_front().unwrap();
    let state =
        State { stream: frame.batch.stream, answers: frame.batch.tag, state: None, previous: None };
    let detail = "no topic has this id".to_owned();
    let code = RefusedCode::Unavailable;
    let refused = UplinkEvent::Refused { state, code, permanent: false, detail };
    world.gateway.handle_uplink(now(world.ms), refused);
    assert_eq!(world.gateway.status(now(world.ms)).alarm, None);
    world.settle();
    assert_eq!(world.broker.readings().len(), 2);
}

#[test]
fn a_broker_that_never_acknowledges_does_not_fill_the_spool_with_records() {
    let mut world = World::new(9);
    for _ in 0..1_000 {
        world.connect();
        world.flow_out();
        world.wire.clear();
    }
    assert!(world.gateway.store_mut().used_bytes().unwrap() < 64 << 10);
    world.gateway.stage(publish(0, 1, true));
    world.commit();
    world.settle();
    world.check();
    assert_eq!(world.broker.readings().len(), 1);
}

#[test]
fn drops_of_a_commit_without_room_are_counted() {
    let mut store = MemoryStore::new(SpoolId([9; 16]));
    store.set_room(0);
    let mut gateway = open(store);
    let mut batch = publish(0, 1, true);
    batch.arrivals[0].acknowledged = false;
    gateway.stage(batch);
    gateway.commit(now(0), &mut Rng(1)).unwrap();
    gateway.store_mut().set_room(u64::MAX);
    gateway.stage(publish(1, 1, true));
    gateway.commit(now(0), &mut Rng(1)).unwrap();
    let ledger = open(gateway.into_store().crashed()).status(now(0)).ledger;
    assert_eq!((ledger.received, ledger.dropped_full), (2, 1));
}
