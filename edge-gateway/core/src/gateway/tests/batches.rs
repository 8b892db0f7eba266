//! Publishes that stand for several readings: what the spool, the ledger and the uplink make of them.

use wire::batch::BatchError;
use wire::ids::SpoolId;

use super::world::{Rng, now, open, payload, publish, publish_batch};
use crate::device_batch::BatchFault;
use crate::gateway::*;
use crate::spool::memory::MemoryStore;
use crate::uplink::batch::Rows;

fn fresh() -> Gateway<MemoryStore> {
    open(MemoryStore::new(SpoolId([9; 16])))
}

/// Commits `batch` alone; its verdict.
fn give(gateway: &mut Gateway<MemoryStore>, batch: ClientBatch) -> (usize, Option<Rejection>) {
    gateway.stage(batch);
    let verdicts = gateway.commit(now(0), &mut Rng(1)).unwrap();
    assert_eq!(verdicts.len(), 1);
    (verdicts[0].stored, verdicts[0].rejected)
}

fn ledger(gateway: &Gateway<MemoryStore>) -> Ledger {
    let status = gateway.status(now(0));
    assert!(status.ledger.balances(status.spooled), "{status:?}");
    status.ledger
}

fn rows(gateway: &mut Gateway<MemoryStore>) -> Vec<Row> {
    let store = gateway.store_mut();
    let segments = store.segments(Lane::Live, RowNo::FIRST, usize::MAX, u32::MAX).unwrap();
    segments.iter().flat_map(|segment| segment.read().unwrap()).collect()
}

#[test]
fn a_batch_is_counted_and_stored_by_its_readings() {
    let mut gateway = fresh();
    assert_eq!(give(&mut gateway, publish_batch(0, 1, 5, true)), (1, None));
    assert_eq!(give(&mut gateway, publish_batch(0, 1, 5, true)), (1, None), "a copy");
    let mut gap = publish_batch(0, 9, 2, false);
    gap.arrivals[0].payload = payload(0, 9, 2, 3);
    assert_eq!(give(&mut gateway, gap), (1, None));
    let expected =
        Ledger { received: 12, deduplicated: 5, lost_by_devices: 3, ..Ledger::default() };
    assert_eq!((ledger(&gateway), gateway.status(now(0)).spooled), (expected, 7));
    let sequences: Vec<_> =
        rows(&mut gateway).iter().map(|row| row.sequence.unwrap().1.0).collect();
    assert_eq!(sequences, [1, 2, 3, 4, 5, 9, 10]);
}

#[test]
fn what_overlaps_leaves_a_hole_or_is_no_batch_is_refused_whole() {
    let mut gateway = fresh();
    assert_eq!(give(&mut gateway, publish_batch(0, 1, 3, true)), (1, None));
    let kept = rows(&mut gateway);
    let before = ledger(&gateway);
    let out_of_order = |first| {
        let (expected, first) = (DeviceSeq(4), DeviceSeq(first));
        Some(Rejection::OutOfOrder { expected, first })
    };
    for (first, count) in [(3, 2), (1, 4), (2, 9), (5, 1), (7, 3)] {
        let refused = give(&mut gateway, publish_batch(0, first, count, false));
        assert_eq!(refused, (0, out_of_order(first)), "{count} from {first}");
    }
    // Even the first publish of a connection may jump over nothing that it brings half of.
    assert_eq!(give(&mut gateway, publish_batch(0, 3, 2, true)), (0, out_of_order(3)));
    for (bytes, fault) in [
        (payload(0, 4, 0, 0), BatchFault::Empty),
        (payload(0, 0, 2, 0), BatchFault::Numbering),
        (payload(0, 4, 2, 4), BatchFault::Numbering),
        (Bytes::new(), BatchFault::Unreadable(BatchError::Length)),
        (Bytes::from_static(b"{\"temp\":21.5}"), BatchFault::Unreadable(BatchError::Schema)),
        (payload(0, 4, 2, 0).slice(..29), BatchFault::Unreadable(BatchError::Length)),
    ] {
        let mut batch = publish_batch(0, 4, 2, false);
        batch.arrivals[0].payload = bytes;
        // Nothing behind it is looked at, or it would be taken in its place.
        batch.arrivals.extend(publish(0, 4, false).arrivals);
        assert_eq!(give(&mut gateway, batch), (0, Some(Rejection::Batch(fault))), "{fault}");
    }
    assert_eq!((rows(&mut gateway), ledger(&gateway)), (kept, before));
    assert_eq!(give(&mut gateway, publish_batch(0, 4, 2, false)), (1, None));
}

/// A client that numbers two queues over one connection: after a change of spools both go on, and each only once.
#[test]
fn every_queue_of_a_connection_may_jump_once() {
    let mut gateway = fresh();
    let arrival = |queue: u64, seq| {
        let mut arrival = publish(0, seq, true).arrivals.remove(0);
        arrival.sequence = arrival.sequence.map(|(_, numbered)| (QueueId(queue), numbered));
        arrival
    };
    let mut batch = publish_batch(7, 50, 2, true);
    batch.arrivals[0].topic = Bytes::from_static(b"culvert/v1/dev0/batch");
    batch.device = Bytes::from_static(b"dev0");
    batch.arrivals.extend([arrival(8, 90), arrival(8, 91), arrival(7, 52), arrival(7, 60)]);
    let (expected, first) = (DeviceSeq(53), DeviceSeq(60));
    let refused = Some(Rejection::OutOfOrder { expected, first });
    assert_eq!(give(&mut gateway, batch.clone()), (4, refused));
    // What the connection published before counts too.
    let queues = batch.arrivals.iter().filter_map(Arrival::queue);
    let mut later = publish(0, 95, true);
    queues.for_each(|queue| later.queues_seen.note(queue));
    later.arrivals = vec![arrival(9, 5), arrival(8, 95)];
    let refused = Rejection::OutOfOrder { expected: DeviceSeq(92), first: DeviceSeq(95) };
    assert_eq!(give(&mut gateway, later), (1, Some(refused)));
}

#[test]
fn a_batch_may_only_be_published_by_its_own_device() {
    let mut gateway = fresh();
    for topic in [
        "culvert/v1/dev1/batch",
        "culvert/v1/dev0/batch/x",
        "culvert/v1/dev0/x/batch",
        "culvert/v2/dev0/batch",
        "culvert/v1/gateway",
        "culvert/v1//batch",
        "culvert/",
    ] {
        let mut batch = publish_batch(0, 1, 2, true);
        batch.arrivals[0].topic = Bytes::from(topic);
        assert_eq!(give(&mut gateway, batch), (0, Some(Rejection::NotAuthorized)), "{topic}");
    }
    for topic in ["culvert", "culverts/v1/dev1/batch", "a/culvert/v1/dev1/batch"] {
        let mut plain = publish_batch(0, 1, 2, true);
        plain.arrivals[0].topic = Bytes::from(topic);
        assert_eq!(give(&mut gateway, plain), (1, None), "{topic} is anybody's");
    }
    assert_eq!(ledger(&gateway).received, 3, "and its payload stays closed");
}

/// A batch uses up what the first numbered publish of a connection may do, however it is numbered.
#[test]
fn only_the_first_numbered_publish_of_a_connection_may_jump() {
    let mut gateway = fresh();
    let mut batch = publish_batch(0, 5, 2, true);
    batch.arrivals.extend(publish_batch(0, 7, 1, false).arrivals);
    batch.arrivals.extend(publish_batch(0, 9, 1, false).arrivals);
    let rejection = Rejection::OutOfOrder { expected: DeviceSeq(8), first: DeviceSeq(9) };
    assert_eq!(give(&mut gateway, batch), (2, Some(rejection)));
    assert_eq!(ledger(&gateway).received, 3);
}

#[test]
fn a_full_spool_keeps_none_of_a_batch() {
    let mut store = MemoryStore::new(SpoolId([9; 16]));
    store.set_room(200);
    let mut gateway = open(store);
    assert_eq!(give(&mut gateway, publish_batch(0, 1, 9, true)), (0, Some(Rejection::Full)));
    assert_eq!(ledger(&gateway), Ledger::default(), "its sender keeps it");
    let mut batch = publish_batch(0, 1, 9, true);
    batch.arrivals[0].acknowledged = false;
    assert_eq!(give(&mut gateway, batch), (0, Some(Rejection::Full)));
    gateway.store_mut().set_room(u64::MAX);
    assert_eq!(give(&mut gateway, publish_batch(0, 1, 9, true)), (1, None));
    let expected = Ledger { received: 18, dropped_full: 9, ..Ledger::default() };
    assert_eq!((ledger(&gateway), rows(&mut gateway).len()), (expected, 9));
}

/// The quota counts what the opened rows take, many times what came.
#[test]
fn beyond_the_budget_a_batch_is_rejected_or_counted_by_its_readings() {
    let mut gateway = fresh();
    let property = (Bytes::from_static(b"site"), Bytes::from(vec![b'x'; 1_900]));
    let mut stored = 0;
    let rejected = loop {
        let mut batch = publish_batch(0, stored + 1, 4_000, stored == 0);
        batch.arrivals[0].properties = vec![property.clone()];
        match give(&mut gateway, batch) {
            (1, None) => stored += 4_000,
            (_, rejected) => break rejected,
        }
    };
    assert_eq!(rejected, Some(Rejection::Full));
    assert!((20_000..40_000).contains(&stored), "{stored} readings of 2 kB in 60 MiB");
    let mut batch = publish_batch(0, stored + 1, 4_000, false);
    batch.arrivals[0].properties = vec![property];
    batch.arrivals[0].acknowledged = false;
    assert_eq!(give(&mut gateway, batch), (1, None));
    let after = ledger(&gateway);
    assert_eq!((after.received, after.dropped_full), (stored + 4_000, 4_000));
}

#[test]
fn a_batch_that_would_fill_memory_is_refused() {
    let mut gateway = fresh();
    let mut batch = publish_batch(0, 1, 4_096, true);
    batch.arrivals[0].properties = vec![(Bytes::new(), Bytes::from(vec![b'x'; 2_000]))];
    let refused = give(&mut gateway, batch);
    assert_eq!(refused, (0, Some(Rejection::Batch(BatchFault::TooLarge))));
    assert_eq!(ledger(&gateway), Ledger::default());
    assert_eq!(give(&mut gateway, publish_batch(0, 1, 4_096, true)), (1, None));
}

/// A commit takes whole connections' publishes until it is large enough; the others follow in the next one.
#[test]
fn a_commit_has_an_end() {
    let mut gateway = fresh();
    for device in 0..5 {
        let mut batch = publish_batch(device, 1, 4_000, true);
        batch.arrivals[0].properties = vec![(Bytes::new(), Bytes::from(vec![b'x'; 1_500]))];
        gateway.stage(batch);
    }
    let mut tokens = Vec::new();
    let mut commits = 0;
    while gateway.wants_commit() == Due::Now {
        let verdicts = gateway.commit(now(0), &mut Rng(1)).unwrap();
        assert!(verdicts.iter().all(|verdict| (verdict.stored, verdict.rejected) == (1, None)));
        tokens.extend(verdicts.iter().map(|verdict| verdict.token.0));
        commits += 1;
    }
    assert_eq!((tokens, commits), (vec![0, 1, 2, 3, 4], 2));
    assert_eq!(ledger(&gateway).received, 20_000);
}

#[test]
fn readings_carry_what_their_publish_says() {
    let mut gateway = fresh();
    let mut batch = publish_batch(3, 1, 2, true);
    batch.arrivals[0].maybe_dup = true;
    batch.arrivals[0].properties =
        vec![(Bytes::from_static(b"site"), Bytes::from_static(b"north"))];
    // A batch numbers itself; properties that number it otherwise are not believed.
    batch.arrivals[0].sequence = publish(3, 77, true).arrivals[0].sequence;
    let properties = batch.arrivals[0].properties.clone();
    assert_eq!(give(&mut gateway, batch), (1, None));
    for (seq, row) in (1..).zip(rows(&mut gateway)) {
        assert_eq!(row.sequence, Some((QueueId(3), DeviceSeq(seq))));
        assert!(row.maybe_dup);
        assert_eq!((row.device, row.topic), ("dev3".into(), "culvert/v1/dev3/batch".into()));
        assert_eq!((row.received, row.properties), (now(0).wall, properties.clone()));
    }
}

/// Segments, runs and record batches stay within their limits whatever the readings' size.
#[test]
fn many_readings_are_cut_into_record_batches_that_the_log_takes() {
    let mut gateway = fresh();
    for device in 0..8 {
        let mut batch = publish_batch(device, 1, 4_096, true);
        batch.arrivals[0].maybe_dup = true;
        assert_eq!(give(&mut gateway, batch), (1, None));
    }
    let store = gateway.store_mut();
    let (bytes, readings) =
        (wire::limits::UPLINK_BATCH_BYTES_TARGET, wire::limits::UPLINK_BATCH_READINGS_MAX);
    let (mut from, mut total) = (RowNo::FIRST, 0);
    loop {
        let run = store.segments(Lane::Live, from, bytes, readings).unwrap();
        let Some(last) = run.last() else { break };
        from = last.end();
        let counts = Rows::read(&run).unwrap().count_by_partition(3);
        total += counts.iter().sum::<u32>();
        assert!(counts.iter().sum::<u32>() <= readings);
    }
    assert_eq!(total, 8 * 4_096);
}
