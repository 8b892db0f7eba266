//! The uplink's rules B1 to B3 and B5 (docs/protocols/uplink.md).

use wire::ids::{ProducerId, Tag};
use wire::record_batch::BatchProducer;
use wire::seq::{StreamEpoch, StreamSeq};
use wire::time::UnixMs;
use wire::uplink::{RefusedCode, StreamState};

use broker_log::{Log, LogSettings, SlotNo, UplinkAppend, UplinkOutcome, UplinkStream};

use crate::batches::{batch_of, key};
use crate::disk::{Disk, flush, small, start};

const NOW: UnixMs = UnixMs(1_000);

fn stream(pid: i64) -> UplinkStream {
    UplinkStream { pid: ProducerId(ProducerId::UPLINK_MIN.0 + pid), key: key(0, 0) }
}

fn append(epoch: i16, base: i32, count: u32, prev_tag: u64, tag: u64) -> UplinkAppend {
    UplinkAppend {
        stream: stream(0),
        epoch: StreamEpoch(epoch),
        base: StreamSeq::new(base).unwrap(),
        count,
        prev_tag: Tag(prev_tag),
        tag: Tag(tag),
    }
}

/// Sends `append` with the batch that belongs to it.
fn send(log: &mut Log, append: &UplinkAppend) -> UplinkOutcome {
    let producer = BatchProducer { id: append.stream.pid, epoch: append.epoch, base: append.base };
    let batch = batch_of(producer, append.tag.0, append.count.max(1), 50, 9);
    log.append_uplink(NOW, append, batch)
}

fn opened(disk: &mut Disk, settings: &LogSettings) -> Log {
    let mut log = start(disk, 1, settings).unwrap();
    log.register_partition(key(0, 0)).unwrap();
    log
}

fn fits(outcome: UplinkOutcome) -> bool {
    match outcome {
        UplinkOutcome::Appended(_) => true,
        UplinkOutcome::Misfit { .. } => false,
        UplinkOutcome::Refused { .. } => panic!("judged by something else than B1: {outcome:?}"),
    }
}

#[test]
fn an_unknown_stream_begins_at_zero_with_the_nil_tag() {
    for (append, expected) in [
        (append(0, 0, 3, 0, 5), true),
        (append(1, 0, 3, 0, 5), false),
        (append(-1, 0, 3, 0, 5), false),
        (append(0, 1, 3, 0, 5), false),
        (append(0, 0, 3, 5, 6), false),
    ] {
        let mut log = opened(&mut Disk::new(), &small());
        assert_eq!(fits(send(&mut log, &append)), expected, "{append:?}");
    }
}

#[test]
fn a_known_stream_goes_on_only_from_its_last_batch() {
    for (append, expected) in [
        (append(0, 3, 1, 5, 6), true),
        // The same frame again, an overlap, a hole.
        (append(0, 0, 3, 0, 5), false),
        (append(0, 2, 1, 5, 6), false),
        (append(0, 4, 1, 5, 6), false),
        // Another history of the same length: a clone, a restore.
        (append(0, 3, 1, 4, 6), false),
        (append(0, 3, 1, 0, 6), false),
        // Epochs change only by RESET.
        (append(1, 3, 1, 5, 6), false),
        (append(1, 0, 1, 5, 6), false),
    ] {
        for durable in [false, true] {
            let mut disk = Disk::new();
            let mut log = opened(&mut disk, &small());
            assert!(fits(send(&mut log, &self::append(0, 0, 3, 0, 5))));
            if durable {
                flush(&mut log, &mut disk);
            }
            assert_eq!(fits(send(&mut log, &append)), expected, "{append:?}");
        }
    }
}

#[test]
fn streams_do_not_touch_each_other() {
    let mut log = opened(&mut Disk::new(), &small());
    assert!(fits(send(&mut log, &append(0, 0, 3, 0, 5))));
    let other = UplinkAppend { stream: stream(1), ..append(0, 0, 1, 0, 5) };
    assert!(fits(send(&mut log, &other)));
    assert!(fits(send(&mut log, &append(0, 3, 1, 5, 6))));
}

#[test]
fn answers_tell_only_what_is_durable() {
    let mut disk = Disk::new();
    let mut log = opened(&mut disk, &small());
    assert!(fits(send(&mut log, &append(0, 0, 3, 0, 5))));
    assert_eq!(log.stream_state_durable(&stream(0)), None);

    // The duplicate must not be answered before the original is durable: the answer would be "nothing stored".
    let duplicate = send(&mut log, &append(0, 0, 3, 0, 5));
    let answer_after = Some(SlotNo(1));
    assert_eq!(duplicate, UplinkOutcome::Misfit { answer_after });
    flush(&mut log, &mut disk);
    let stored = StreamState { epoch: StreamEpoch(0), last: StreamSeq::new(2), tag: Tag(5) };
    assert_eq!(log.stream_state_durable(&stream(0)), Some(stored));
    let duplicate = send(&mut log, &append(0, 0, 3, 0, 5));
    assert_eq!(duplicate, UplinkOutcome::Misfit { answer_after: None });

    // The next frame's state appears with its slot, not before.
    assert!(fits(send(&mut log, &append(0, 3, 1, 5, 6))));
    assert_eq!(log.stream_state_durable(&stream(0)), Some(stored));
}

#[test]
fn a_frame_that_contradicts_its_batch_is_refused_once_it_fits() {
    let good = append(0, 0, 3, 0, 5);
    let producer = BatchProducer { id: good.stream.pid, epoch: good.epoch, base: good.base };
    let of = |id, epoch, base, records| {
        let producer = BatchProducer {
            id: ProducerId(id),
            epoch: StreamEpoch(epoch),
            base: StreamSeq::new(base).unwrap(),
        };
        batch_of(producer, 1, records, 50, 9)
    };
    let pid = good.stream.pid.0;
    let mut transactional = of(pid, 0, 0, 3).to_vec();
    transactional[22] |= 0x10;
    let mut control = of(pid, 0, 0, 3).to_vec();
    control[22] |= 0x20;
    let nil = UplinkAppend { tag: Tag::NIL, ..good };
    let cases = [
        (good, of(pid + 1, 0, 0, 3)),
        (good, of(pid, 1, 0, 3)),
        (good, of(pid, 0, 1, 3)),
        (good, of(pid, 0, 0, 2)),
        (good, transactional.into()),
        (good, control.into()),
        (good, bytes::Bytes::from_static(b"no batch")),
        (nil, of(pid, 0, 0, 3)),
    ];
    let mut log = opened(&mut Disk::new(), &small());
    for (append, batch) in cases {
        let misfit = UplinkAppend { prev_tag: Tag(99), ..append };
        let outcome = log.append_uplink(NOW, &misfit, batch.clone());
        assert!(matches!(outcome, UplinkOutcome::Misfit { .. }), "B3: B1 comes first");
        let refused = UplinkOutcome::Refused { code: RefusedCode::Invalid, answer_after: None };
        assert_eq!(log.append_uplink(NOW, &append, batch), refused);
    }
    // None of them has moved the stream.
    let batch = batch_of(producer, 1, 3, 50, 9);
    assert!(fits(log.append_uplink(NOW, &good, batch)));
}

#[test]
fn a_busy_log_refuses_for_now() {
    let mut disk = Disk::new();
    let settings = LogSettings { pending_bytes_max: 400, ..small() };
    let mut log = opened(&mut disk, &settings);
    assert!(fits(send(&mut log, &append(0, 0, 1, 0, 5))));
    let refused =
        UplinkOutcome::Refused { code: RefusedCode::Unavailable, answer_after: Some(SlotNo(1)) };
    assert_eq!(send(&mut log, &append(0, 1, 1, 5, 6)), refused);
    flush(&mut log, &mut disk);
    assert!(fits(send(&mut log, &append(0, 1, 1, 5, 6))));
}

#[test]
fn states_survive_a_restart_and_sequences_wrap() {
    let mut disk = Disk::new();
    let mut log = opened(&mut disk, &small());
    assert!(fits(send(&mut log, &append(0, 0, 3, 0, 5))));
    flush(&mut log, &mut disk);
    let mut log = start(&mut disk, 2, &small()).unwrap();
    let stored = log.stream_state_durable(&stream(0)).unwrap();
    assert_eq!((stored.last, stored.tag), (StreamSeq::new(2), Tag(5)));
    assert!(!fits(send(&mut log, &append(0, 0, 3, 0, 5))));
    assert!(fits(send(&mut log, &append(0, 3, 1, 5, 6))));

    let last = append(0, i32::MAX - 1, 3, 6, 7);
    assert_eq!(last.state_after().next(), StreamSeq::new(1).unwrap());
}
