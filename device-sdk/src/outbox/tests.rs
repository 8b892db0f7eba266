mod model;

use wire::batch::BatchReader;
use wire::ids::QueueId;
use wire::reading::{Quality, Sensor, Value, ValueKind};

use super::*;
use crate::batcher::BatchLimits;
use crate::queue::RamQueue;

const SENSORS: [Sensor<'static>; 1] =
    [Sensor { name: "n", unit: "", kind: ValueKind::Scaled { decimals: 0 } }];
const SPOOL: SpoolId = SpoolId([1; 16]);
const OTHER_SPOOL: SpoolId = SpoolId([2; 16]);

/// Batches of one reading, in a queue that holds four of them.
type Small<'b> = Outbox<'b, RamQueue<230>>;

fn outbox(buf: &mut [u8], when_full: WhenFull, window: usize) -> Small<'_> {
    let limits = BatchLimits { readings: 1, age_ms: 1_000 };
    let batcher = Batcher::new(QueueId(u64::MAX), &SENSORS, buf, limits).unwrap();
    Outbox::new(batcher, RamQueue::new(), OutboxSettings { when_full, window }).unwrap()
}

fn reading(value: i64) -> Reading {
    Reading { sensor: 0, time_ms: 0, value: Value::Scaled(value), quality: Quality::Good }
}

fn record(outbox: &mut Small<'_>, count: usize) {
    for _ in 0..count {
        // Whether it was lost is for the test to look at.
        let _ = outbox.record(MonoMs(0), &reading(i64::MAX));
    }
}

fn connect(outbox: &mut Small<'_>, spool: SpoolId) {
    outbox.connected();
    assert!(outbox.spool_seen(spool));
}

/// Publishes what may be published: (first, lost before, maybe a copy).
fn publish(outbox: &mut Small<'_>) -> std::vec::Vec<(u64, u64, bool)> {
    let mut published = std::vec::Vec::new();
    while let Some(publish) = outbox.next_publish() {
        let mut out = [0; 128];
        let len = outbox.payload(&publish, &mut out).unwrap();
        assert!(len <= outbox.payload_len_max());
        let reader = BatchReader::new(&out[..len]).unwrap();
        let header = *reader.header();
        assert_eq!((header.first, header.lost_before), (publish.first, publish.lost_before));
        assert_eq!(reader.count(), usize::from(publish.count));
        published.push((publish.first.0, publish.lost_before, publish.maybe_dup));
    }
    published
}

#[test]
fn nothing_is_published_before_the_spool_is_known() {
    let mut buf = [0; 80];
    let mut outbox = outbox(&mut buf, WhenFull::DropNewest, 2);
    record(&mut outbox, 3);
    assert_eq!(publish(&mut outbox), []);
    assert!(!outbox.spool_seen(SPOOL), "not connected");
    outbox.connected();
    assert_eq!(publish(&mut outbox), []);
    assert!(outbox.spool_seen(SPOOL));
    assert_eq!(publish(&mut outbox), [(1, 0, false), (2, 0, false)]);
    assert!(outbox.spool_seen(SPOOL), "said again");
    assert_eq!(outbox.in_flight(), 2);
    outbox.connected();
    assert_eq!(publish(&mut outbox), [], "another connection waits anew");
}

#[test]
fn a_batch_leaves_the_queue_with_its_acknowledgement_and_in_order() {
    let mut buf = [0; 80];
    let mut outbox = outbox(&mut buf, WhenFull::DropNewest, 3);
    record(&mut outbox, 4);
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox).len(), 3);
    outbox.acknowledged(DeviceSeq(2));
    outbox.acknowledged(DeviceSeq(77));
    assert_eq!((outbox.counts().acknowledged, outbox.in_flight()), (0, 3));
    outbox.acknowledged(DeviceSeq(1));
    outbox.acknowledged(DeviceSeq(1));
    assert_eq!((outbox.counts().acknowledged, outbox.in_flight()), (2, 1));
    assert_eq!(publish(&mut outbox), [(4, 0, false)]);
    outbox.disconnected();
    outbox.acknowledged(DeviceSeq(3));
    assert_eq!(outbox.counts().waiting(), 2, "what comes late counts for nothing");
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox), [(3, 0, false), (4, 0, false)]);
}

#[test]
fn a_full_queue_loses_the_newest_and_the_next_batch_says_so() {
    let mut buf = [0; 80];
    let mut outbox = outbox(&mut buf, WhenFull::DropNewest, 8);
    record(&mut outbox, 5);
    assert_eq!(outbox.counts().lost, 0, "four queued, one in the batcher");
    assert_eq!(outbox.record(MonoMs(0), &reading(0)), Err(RecordError::Full));
    assert_eq!(outbox.record(MonoMs(0), &reading(0)), Err(RecordError::Full));
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox).len(), 4);
    outbox.acknowledged(DeviceSeq(1));
    record(&mut outbox, 1);
    assert_eq!(publish(&mut outbox), [(5, 0, false)]);
    outbox.acknowledged(DeviceSeq(2));
    assert_eq!(publish(&mut outbox), [(8, 2, false)]);
    assert_eq!(outbox.counts().lost, 2);
}

#[test]
fn a_full_queue_loses_the_oldest_that_was_never_sent() {
    let mut buf = [0; 80];
    let mut outbox = outbox(&mut buf, WhenFull::DropOldest, 1);
    record(&mut outbox, 4);
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox), [(1, 0, false)]);
    outbox.disconnected();
    record(&mut outbox, 2);
    assert_eq!(outbox.counts(), Counts { recorded: 6, lost: 2, ..Counts::default() });
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox), [(1, 0, false)], "it may be at the gateway");
    outbox.acknowledged(DeviceSeq(1));
    assert_eq!(publish(&mut outbox), [(4, 2, false)]);
    outbox.disconnected();
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox), [(4, 2, false)], "byte for byte the same");
}

#[test]
fn if_everything_was_sent_the_newest_is_lost() {
    let mut buf = [0; 80];
    let mut outbox = outbox(&mut buf, WhenFull::DropOldest, 8);
    record(&mut outbox, 4);
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox).len(), 4);
    record(&mut outbox, 1);
    assert_eq!(outbox.record(MonoMs(0), &reading(0)), Err(RecordError::Full));
    outbox.acknowledged(DeviceSeq(1));
    assert_eq!(publish(&mut outbox), [(5, 0, false)]);
}

#[test]
fn losses_before_the_first_batch_are_declared_too() {
    let mut buf = [0; 80];
    let mut outbox = outbox(&mut buf, WhenFull::DropOldest, 8);
    record(&mut outbox, 9);
    connect(&mut outbox, SPOOL);
    let expected = [(6, 5, false), (7, 0, false), (8, 0, false), (9, 0, false)];
    assert_eq!(publish(&mut outbox), expected);
}

#[test]
fn another_spool_makes_copies_of_what_was_sent() {
    let mut buf = [0; 80];
    let mut outbox = outbox(&mut buf, WhenFull::DropNewest, 2);
    record(&mut outbox, 4);
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox).len(), 2);
    connect(&mut outbox, OTHER_SPOOL);
    assert_eq!(publish(&mut outbox), [(1, 0, true), (2, 0, true)]);
    outbox.acknowledged(DeviceSeq(1));
    assert_eq!(publish(&mut outbox), [(3, 0, false)]);
    connect(&mut outbox, OTHER_SPOOL);
    assert_eq!(publish(&mut outbox), [(2, 0, true), (3, 0, false)], "the flag stays");
    assert!(!outbox.spool_seen(SPOOL), "a change in the middle ends the connection");
    assert_eq!(publish(&mut outbox), []);
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox), [(2, 0, true), (3, 0, true)]);
    assert_eq!(outbox.attachment().map(|attachment| attachment.spool), Some(SPOOL));
}

#[test]
fn a_refusal_ends_the_connection_and_only_an_invalid_batch_goes() {
    for (code, remaining, refused) in [
        (0x80, [(1, 0, false), (2, 0, false)], 0),
        (0x83, [(1, 0, false), (2, 0, false)], 0),
        (0x87, [(1, 0, false), (2, 0, false)], 0),
        (0x90, [(1, 0, false), (2, 0, false)], 0),
        (0x95, [(2, 1, false), (3, 0, false)], 1),
        (0x97, [(1, 0, false), (2, 0, false)], 0),
        (0x99, [(2, 1, false), (3, 0, false)], 1),
        (0xff, [(1, 0, false), (2, 0, false)], 0),
    ] {
        let mut buf = [0; 80];
        let mut outbox = outbox(&mut buf, WhenFull::DropNewest, 2);
        record(&mut outbox, 3);
        connect(&mut outbox, SPOOL);
        assert_eq!(publish(&mut outbox).len(), 2);
        outbox.refused(DeviceSeq(1), Refusal::of_reason_code(code).unwrap());
        assert_eq!(publish(&mut outbox), [], "{code:#x}");
        connect(&mut outbox, SPOOL);
        assert_eq!(publish(&mut outbox), remaining, "{code:#x}");
        assert_eq!(outbox.counts().refused, refused, "{code:#x}");
    }
    for code in [0, 0x10, 0x7f] {
        assert_eq!(Refusal::of_reason_code(code), None);
    }
}

#[test]
fn an_invalid_batch_behind_an_undecided_one_waits_for_its_turn() {
    let mut buf = [0; 80];
    let mut outbox = outbox(&mut buf, WhenFull::DropNewest, 2);
    record(&mut outbox, 2);
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox).len(), 2);
    outbox.refused(DeviceSeq(2), Refusal::Invalid);
    assert_eq!(outbox.counts().refused, 0);
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox), [(1, 0, false), (2, 0, false)]);
}

#[test]
fn a_withdrawn_batch_is_the_next_again_and_stays() {
    let mut buf = [0; 80];
    let mut outbox = outbox(&mut buf, WhenFull::DropOldest, 8);
    record(&mut outbox, 2);
    connect(&mut outbox, SPOOL);
    assert_eq!(publish(&mut outbox).len(), 2);
    outbox.withdrawn(DeviceSeq(1));
    assert_eq!(outbox.in_flight(), 2, "only the newest can be withdrawn");
    outbox.withdrawn(DeviceSeq(2));
    assert_eq!(publish(&mut outbox), [(2, 0, false)]);
}

#[test]
fn a_queue_that_was_resumed_flags_a_window_for_another_spool() {
    let mut buf = [0; 80];
    let mut first = outbox(&mut buf, WhenFull::DropOldest, 8);
    record(&mut first, 6);
    let resume = Resume {
        attachment: Some(Attachment { spool: SPOOL, doubtful_through: DeviceSeq(2) }),
        acknowledged: DeviceSeq(1),
        numbered: DeviceSeq(6),
    };
    let queue = first.into_queue();
    let mut buf = [0; 80];
    let limits = BatchLimits { readings: 1, age_ms: 1_000 };
    let batcher = Batcher::new(QueueId(u64::MAX), &SENSORS, &mut buf, limits).unwrap();
    let settings = OutboxSettings { when_full: WhenFull::DropOldest, window: 8 };
    let mut outbox = Outbox::resume(batcher, queue, settings, resume).unwrap();
    assert_eq!(outbox.counts().waiting(), 4);
    assert_eq!(outbox.record(MonoMs(0), &reading(0)), Ok(DeviceSeq(7)));
    assert_eq!(outbox.record(MonoMs(0), &reading(0)), Err(RecordError::Full), "all may be sent");
    connect(&mut outbox, OTHER_SPOOL);
    let expected = [(3, 1, true), (4, 0, true), (5, 0, true), (6, 0, true)];
    assert_eq!(publish(&mut outbox), expected);
    outbox.acknowledged(DeviceSeq(3));
    assert_eq!(publish(&mut outbox), [(7, 0, false)]);
}

#[test]
fn misuse_is_refused() {
    let mut buf = [0; 231];
    let batcher = Batcher::new(QueueId(1), &SENSORS, &mut buf, BatchLimits::default()).unwrap();
    let settings = OutboxSettings { when_full: WhenFull::DropOldest, window: 99 };
    let outbox = Outbox::new(batcher, RamQueue::<230>::new(), settings);
    assert_eq!(outbox.err(), Some(SetupError::Buffer));
    let mut buf = [0; 80];
    let mut outbox = super::tests::outbox(&mut buf, WhenFull::DropOldest, 99);
    let unknown = Reading { sensor: 1, ..reading(0) };
    assert_eq!(outbox.record(MonoMs(0), &unknown), Err(RecordError::Sensor));
    assert_eq!(outbox.counts(), Counts::default());
    record(&mut outbox, 1);
    connect(&mut outbox, SPOOL);
    let publish = outbox.next_publish().unwrap();
    assert_eq!(outbox.payload(&publish, &mut [0; 9]), Err(BatchError::Length));
    outbox.acknowledged(publish.first);
    assert_eq!(outbox.payload(&publish, &mut [0; 99]), Err(BatchError::Malformed));
}
