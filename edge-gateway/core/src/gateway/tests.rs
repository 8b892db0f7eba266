mod batches;
mod world;

use std::collections::BTreeMap;

use wire::ids::{SpoolId, TopicId};
use wire::limits::DEFAULT_TOPIC;
use wire::uplink::{RefusedCode, State, TopicInfo};

use self::world::{Broker, Rng, World, facts, now, open, publish};
use super::*;
use crate::spool::memory::MemoryStore;
use crate::spool::segment::SegmentWriter;

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
        for (device, durable) in world.durable().into_iter().enumerate() {
            let last = stored.get(format!("dev{device}").as_bytes()).copied().unwrap_or(0);
            assert_eq!(last, durable, "seed {seed}: dev{device}");
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
    let rejected = Some(Rejection::OutOfOrder { expected: DeviceSeq(3), first: DeviceSeq(4) });
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
        device_time: None,
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
