//! What every [`SpoolStore`] must do, as one suite that its implementations run in their tests (feature `conformance`).

use bytes::Bytes;
use wire::ids::{Lane, Partition, ProducerId, QueueId, Tag, TopicId};
use wire::seq::{DeviceSeq, StreamEpoch, StreamSeq};
use wire::time::UnixMs;
use wire::uplink::{StreamKey, StreamState};

use super::RowNo;
use super::segment::{Row, Segment, SegmentWriter};
use super::store::SpoolStore;
use crate::dedupe::QUEUES_PER_DEVICE;
use crate::ledger::Ledger;
use crate::uplink::window::{Batch, BatchNo, Stream};

/// Runs the suite: `make` gives an empty store, `reopen` closes one as a crash would and opens what is left.
///
/// # Panics
/// If the store does not conform.
pub fn check<S: SpoolStore>(mut make: impl FnMut() -> S, mut reopen: impl FnMut(S) -> S) {
    an_empty_store_begins_at_the_first_row(&mut make());
    committed_changes_survive_and_others_do_not(make(), &mut reopen);
    segments_come_back_in_order_and_within_limits(&mut make());
    only_acknowledged_segments_are_deleted(make(), &mut reopen);
    the_newest_queues_of_a_device_are_kept(make(), &mut reopen);
}

fn segments(lane: Lane, first: RowNo, rows: usize, payload: usize) -> (Vec<Segment>, RowNo) {
    let mut writer = SegmentWriter::new(lane, first);
    for i in 0..rows {
        writer.push(&Row {
            received: UnixMs(1_700_000_000_000),
            device: Bytes::from_static(b"dev1"),
            topic: Bytes::from_static(b"t"),
            sequence: None,
            device_time: None,
            maybe_dup: false,
            properties: Vec::new(),
            payload: Bytes::from(vec![i as u8; payload]),
        });
    }
    writer.finish()
}

fn batch(number: u64, from: RowNo, to: RowNo, count: u32) -> Batch {
    let pid = ProducerId(ProducerId::UPLINK_MIN.0 + 1);
    Batch {
        number: BatchNo(number),
        lane: Lane::Live,
        stream: StreamKey { pid, topic: TopicId([7; 16]), partition: Partition(3) },
        partitions: 12,
        epoch: StreamEpoch::FIRST,
        base: StreamSeq::ZERO,
        count,
        prev_tag: Tag::NIL,
        tag: Tag(u64::MAX - number),
        from,
        to,
        backfill: true,
    }
}

fn put_all<S: SpoolStore>(store: &mut S, all: &[Segment]) {
    for segment in all {
        store.put_segment(segment).expect("a segment is stored");
    }
}

fn an_empty_store_begins_at_the_first_row<S: SpoolStore>(store: &mut S) {
    let found = store.recover().expect("an empty store recovers");
    assert_eq!((found.next_row, found.next_batch), (RowNo::FIRST, BatchNo::default()));
    assert_eq!((found.spooled, found.ledger), (0, Ledger::default()));
    assert!(found.streams.is_empty() && found.window.is_empty());
    assert!(found.assigned.iter().all(|(_, row)| *row == RowNo::FIRST));
}

fn committed_changes_survive_and_others_do_not<S: SpoolStore>(
    mut store: S,
    reopen: &mut impl FnMut(S) -> S,
) {
    let spool = store.recover().expect("recovers").spool;
    let (kept, end) = segments(Lane::Live, RowNo::FIRST, 5, 10);
    let window = batch(0, RowNo::FIRST, RowNo(4), 3);
    let acked = StreamState { last: StreamSeq::new(9), tag: Tag(1), ..StreamState::UNKNOWN };
    let stream = Stream { lane: Lane::Live, key: window.stream, acked };
    let ledger = Ledger { received: u64::MAX, delivered: 2, ..Ledger::default() };
    let (device, queue) = (b"dev/\xff".as_slice(), QueueId(u64::MAX));
    store.begin().expect("begins");
    put_all(&mut store, &kept);
    store.put_batch(&window).expect("stores");
    store.put_stream(&stream).expect("stores");
    store.put_assigned(Lane::Live, end).expect("stores");
    store.put_ledger(&ledger).expect("stores");
    store.put_device_last(device, queue, DeviceSeq(u64::MAX)).expect("stores");
    store.commit().expect("commits");

    let (lost, _) = segments(Lane::Live, end, 7, 10);
    store.begin().expect("begins");
    put_all(&mut store, &lost);
    store.put_ledger(&Ledger::default()).expect("stores");
    store.put_device_last(device, queue, DeviceSeq(3)).expect("stores");
    store.delete_batch(window.number).expect("deletes");
    store.rollback();
    store.begin().expect("begins again after a rollback");
    put_all(&mut store, &lost);
    let mut store = reopen(store);

    let found = store.recover().expect("recovers");
    assert_eq!((found.spool, found.next_row, found.next_batch), (spool, end, BatchNo(1)));
    assert_eq!((found.window, found.streams), (vec![window], vec![stream]));
    assert_eq!((found.ledger, found.spooled), (ledger, 3));
    assert!(found.assigned.contains(&(Lane::Live, end)));
    store.begin().expect("begins");
    assert_eq!(store.device_last(device, queue).expect("reads"), Some(DeviceSeq(u64::MAX)));
    assert_eq!(store.device_last(device, QueueId(1)).expect("reads"), None);
    assert_eq!(store.device_last(b"dev", queue).expect("reads"), None);
    store.rollback();
    let back = store.segments(Lane::Live, RowNo::FIRST, usize::MAX, u32::MAX).expect("reads");
    assert_eq!(back, kept);
}

fn segments_come_back_in_order_and_within_limits<S: SpoolStore>(store: &mut S) {
    let mut next = RowNo::FIRST;
    let mut live = Vec::new();
    store.begin().expect("begins");
    for i in 0..6 {
        let lane = if i % 3 == 2 { Lane::Control } else { Lane::Live };
        let (made, end) = segments(lane, next, 2, 1000);
        next = end;
        put_all(store, &made);
        if lane == Lane::Live {
            live.extend(made);
        }
    }
    store.commit().expect("commits");
    let mut read =
        |from, bytes, rows| store.segments(Lane::Live, from, bytes, rows).expect("reads");
    assert_eq!(read(RowNo::FIRST, usize::MAX, u32::MAX), live);
    assert_eq!(read(RowNo::FIRST, 1, u32::MAX), live[..1], "at least one");
    assert_eq!(read(RowNo::FIRST, usize::MAX, 5), live[..2], "none beyond the rows");
    assert_eq!(
        read(live[1].first, 2 * live[0].data.len(), 99),
        live[1..3],
        "none beyond the bytes"
    );
    assert_eq!(
        read(live[1].end(), usize::MAX, u32::MAX),
        live[2..],
        "others' rows are passed over"
    );
    assert!(read(next, usize::MAX, u32::MAX).is_empty());
}

fn only_acknowledged_segments_are_deleted<S: SpoolStore>(
    mut store: S,
    reopen: &mut impl FnMut(S) -> S,
) {
    let (live, middle) = segments(Lane::Live, RowNo::FIRST, 4, 200_000);
    let (control, end) = segments(Lane::Control, middle, 1, 10);
    assert!(live.len() >= 2, "several segments");
    store.begin().expect("begins");
    put_all(&mut store, &live);
    put_all(&mut store, &control);
    store.commit().expect("commits");
    let full = store.used_bytes().expect("reads");
    store.begin().expect("begins");
    // One row short of the second segment's end: it must stay.
    store.delete_segments(Lane::Live, RowNo(live[1].end().0 - 1)).expect("deletes");
    store.commit().expect("commits");
    assert!(store.used_bytes().expect("reads") < full, "space is given back");
    let mut store = reopen(store);
    let left = store.segments(Lane::Live, RowNo::FIRST, usize::MAX, u32::MAX).expect("reads");
    assert_eq!(left, live[1..]);
    let left = store.segments(Lane::Control, RowNo::FIRST, usize::MAX, u32::MAX).expect("reads");
    assert_eq!(left, control);
    store.begin().expect("begins");
    store.delete_segments(Lane::Live, end).expect("deletes");
    store.delete_segments(Lane::Control, end).expect("deletes");
    store.commit().expect("commits");
    let mut store = reopen(store);
    // A row's number is never given twice, even when nothing is left to count from.
    assert_eq!(store.recover().expect("recovers").next_row, end);
}

fn the_newest_queues_of_a_device_are_kept<S: SpoolStore>(
    mut store: S,
    reopen: &mut impl FnMut(S) -> S,
) {
    let queues = QUEUES_PER_DEVICE as u64 + 2;
    for queue in 0..queues {
        store.begin().expect("begins");
        store.put_device_last(b"dev1", QueueId(queue), DeviceSeq(1)).expect("stores");
        store.put_device_last(b"dev2", QueueId(0), DeviceSeq(queue)).expect("stores");
        store.commit().expect("commits");
    }
    let mut store = reopen(store);
    store.begin().expect("begins");
    for queue in 0..queues {
        let kept = store.device_last(b"dev1", QueueId(queue)).expect("reads").is_some();
        assert_eq!(kept, queue >= 2, "queue {queue}");
    }
    let last = store.device_last(b"dev2", QueueId(0)).expect("reads");
    assert_eq!(last, Some(DeviceSeq(queues - 1)));
    store.rollback();
}
