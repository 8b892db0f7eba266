//! Appends, slots and what becomes visible when.

use bytes::Bytes;
use wire::limits::RECORD_BATCH_BYTES_MAX;
use wire::offset::{LeaderEpoch, Offset};
use wire::time::UnixMs;

use broker_log::plain_records::PlainRecords;
use broker_log::{
    AppendError, FileNo, FirstBatch, Job, LogSettings, Moved, PartitionOffsets, ReadError, SlotNo,
    TopicNo,
};

use crate::batches::{batch, key};
use crate::disk::{Disk, flush, small, start, write};
use crate::world::{Hurry, World};

const NOW: UnixMs = UnixMs(1_000);

#[test]
fn the_next_slot_is_given_away_before_the_last_one_is_taken_in() {
    let mut disk = Disk::new();
    let mut log = start(&mut disk, 1, &small()).unwrap();
    let a = key(4, 0);
    log.register_partition(a).unwrap();
    log.append(NOW, a, batch(1, 3, 100)).unwrap();
    let first = log.take_slot().unwrap();
    let later = log.append(NOW, a, batch(2, 2, 100)).unwrap();
    write(&mut disk, &first).unwrap();

    log.slot_synced(first.slot_no);
    let second = log.take_slot().unwrap();
    assert_eq!(second.slot_no, later.slot_no);
    assert_eq!(log.offsets(a).unwrap().high_watermark, Offset(0), "not taken in");
    assert_eq!(log.slot_for_answer(), Some(second.slot_no));
    assert_eq!(log.slot_durable(first.slot_no).slot_no, first.slot_no);
    assert_eq!(log.offsets(a).unwrap().high_watermark, Offset(3));
    assert!(log.take_slot().is_none(), "one slot in flight");

    write(&mut disk, &second).unwrap();
    log.slot_durable(second.slot_no);
    assert_eq!(log.offsets(a).unwrap().high_watermark, Offset(5));
    assert_eq!(log.slot_for_answer(), None);
}

#[test]
fn a_slot_that_is_laid_out_ahead_is_the_slot_that_it_would_be() {
    let slots_of = |ahead: &dyn Fn(u64) -> bool| {
        let mut disk = Disk::new();
        let mut log = start(&mut disk, 1, &small()).unwrap();
        log.register_partition(key(4, 0)).unwrap();
        log.append(NOW, key(4, 0), batch(0, 1, 100)).unwrap();
        let mut in_flight = log.take_slot().unwrap();
        let mut slots = Vec::new();
        for n in 0..200 {
            let now = UnixMs(NOW.0 + n as i64);
            log.append(now, key(4, 0), batch(n, 1, 300 + n as usize)).unwrap();
            if ahead(n) {
                log.lay_out_ahead();
            }
            if n % 3 == 2 {
                write(&mut disk, &in_flight).unwrap();
                log.slot_durable(in_flight.slot_no);
                slots.push((in_flight.slot_no, in_flight.bytes));
                in_flight = log.take_slot().unwrap();
            }
        }
        write(&mut disk, &in_flight).unwrap();
        log.slot_durable(in_flight.slot_no);
        log.lay_out_ahead();
        assert!(log.take_slot().is_some(), "what is staged goes out, in flight or not");
        slots
    };
    let never = slots_of(&|_| false);
    assert!(never.len() > 60);
    // Behind each batch, before the last one that comes for a slot, and when nothing more comes for it.
    for ahead in [&|_| true, &|n| n % 3 == 1, &|n| n % 3 == 2] as [&dyn Fn(u64) -> bool; 3] {
        assert_eq!(slots_of(ahead), never);
    }
}

#[test]
fn files_that_are_left_before_their_last_slot_is_taken_in_are_sealed_whole() {
    for (bytes, per_file) in [(40 << 10, 1), (24 << 10, 2)] {
        let mut world = World::new(LogSettings { slot_bytes_target: 1, ..small() }, &[key(4, 0)]);
        for name in 0..3 * per_file {
            world.log.append(world.now.wall, key(4, 0), batch(name, 1, bytes)).unwrap();
        }
        let mut sealed = Vec::new();
        let mut next = world.log.take_slot();
        while let Some(slot) = next {
            write(&mut world.disk, &slot).unwrap();
            world.log.slot_synced(slot.slot_no);
            next = world.log.take_slot();
            if let Some(Job::Seal(job)) = world.log.take_job(world.now) {
                sealed.push((job.file_no, job.size, job.runs.len() as u64));
                let done = Job::Seal(job).run(&mut world.disk, &mut Hurry, &PlainRecords);
                world.log.job_done(world.now, done);
            }
            world.log.slot_durable(slot.slot_no);
        }
        let expected = [0, 1].map(|file_no| (FileNo(file_no), 64 << 10, per_file));
        assert_eq!(sealed, expected);
    }
}

#[test]
#[should_panic(expected = "slots become durable in their order")]
fn a_slot_is_taken_in_before_the_next_one_is_synced() {
    let mut disk = Disk::new();
    let mut log = start(&mut disk, 1, &small()).unwrap();
    log.register_partition(key(4, 0)).unwrap();
    for n in 0..2 {
        log.append(NOW, key(4, 0), batch(n, 1, 100)).unwrap();
        let slot = log.take_slot().unwrap();
        log.slot_synced(slot.slot_no);
    }
}

#[test]
fn only_what_is_durable_is_visible() {
    let mut disk = Disk::new();
    let mut log = start(&mut disk, 1, &small()).unwrap();
    let (a, b) = (key(4, 0), key(4, 1));
    log.register_partition(a).unwrap();
    log.register_partition(b).unwrap();
    assert_eq!(log.next_topic_no(), TopicNo(5));
    assert_eq!(log.slot_for_answer(), None);

    let first = log.append(NOW, a, batch(1, 3, 100)).unwrap();
    assert_eq!((first.base_offset, first.slot_no), (Offset(0), SlotNo(1)));
    let second = log.append(NOW, b, batch(2, 1, 100)).unwrap();
    let third = log.append(NOW, a, batch(3, 2, 100)).unwrap();
    assert_eq!((second.base_offset, third.base_offset), (Offset(0), Offset(3)));
    assert_eq!(log.slot_for_answer(), Some(SlotNo(1)));

    let slot = log.take_slot().unwrap();
    assert!(log.take_slot().is_none(), "one slot in flight");
    let later = log.append(NOW, a, batch(4, 1, 100)).unwrap();
    assert_eq!((later.base_offset, later.slot_no), (Offset(5), SlotNo(2)));
    assert!(log.take_slot().is_none(), "one slot in flight");
    let nothing = PartitionOffsets { log_start: Offset(0), high_watermark: Offset(0) };
    assert_eq!(log.offsets(a), Some(nothing));
    let beyond = log.read(a, Offset(1), 1_000, FirstBatch::Always);
    assert_eq!(beyond.unwrap_err(), ReadError::OutOfRange(nothing));

    write(&mut disk, &slot).unwrap();
    let durable = log.slot_durable(slot.slot_no);
    let moved = |key, high_watermark| Moved { key, high_watermark: Offset(high_watermark) };
    assert_eq!(durable.moved, [moved(a, 5), moved(b, 1)]);
    assert_eq!(log.slot_for_answer(), Some(SlotNo(2)));
    flush(&mut log, &mut disk);
    assert_eq!(log.slot_for_answer(), None);
    assert_eq!(log.offsets(a).unwrap().high_watermark, Offset(6));
}

#[test]
fn a_batch_that_the_log_does_not_take_changes_nothing() {
    let mut disk = Disk::new();
    let settings = LogSettings { pending_bytes_max: 32 << 20, ..small() };
    let mut log = start(&mut disk, 1, &settings).unwrap();
    let a = key(0, 0);
    log.register_partition(a).unwrap();
    let good = batch(1, 2, 100);
    let two = Bytes::from([good.clone(), good.clone()].concat());
    let mut sparse = good.to_vec();
    sparse[26] += 1;
    let mut old = good.to_vec();
    old[16] = 1;
    let large = Bytes::from(vec![0; RECORD_BATCH_BYTES_MAX + 1]);
    let cases = [
        (key(0, 1), good.clone(), AppendError::UnknownPartition),
        (key(1, 0), good.clone(), AppendError::UnknownPartition),
        (a, Bytes::new(), AppendError::Invalid),
        (a, good.slice(..good.len() - 1), AppendError::Invalid),
        (a, two, AppendError::Invalid),
        (a, Bytes::from(sparse), AppendError::Invalid),
        (a, Bytes::from(old), AppendError::Invalid),
        (a, large, AppendError::TooLarge),
    ];
    for (key, batch, expected) in cases {
        assert_eq!(log.append(NOW, key, batch), Err(expected));
    }
    assert!(log.take_slot().is_none());
    let appended = log.append(NOW, a, good).unwrap();
    assert_eq!(appended.base_offset, Offset(0));
}

#[test]
fn claimed_record_counts_cannot_wrap_an_offset() {
    let mut disk = Disk::new();
    let mut log = start(&mut disk, 1, &small()).unwrap();
    let a = key(0, 0);
    log.register_partition(a).unwrap();
    let mut claims = batch(1, 1, 8).to_vec();
    claims[23..27].copy_from_slice(&(i32::MAX - 1).to_be_bytes());
    claims[57..61].copy_from_slice(&i32::MAX.to_be_bytes());
    for i in 0..3 {
        let appended = log.append(NOW, a, Bytes::from(claims.clone())).unwrap();
        assert_eq!(appended.base_offset, Offset(i * i64::from(i32::MAX)));
    }
}

#[test]
fn slots_that_are_laid_out_ahead_are_the_same() {
    // Whether the next slot is asked for while one is in flight.
    let slots = [true, false].map(|ahead| {
        let mut disk = Disk::new();
        let settings = LogSettings { slot_bytes_target: 8 << 10, ..small() };
        let mut log = start(&mut disk, 1, &settings).unwrap();
        let keys = [key(0, 1), key(0, 0)];
        for key in keys {
            log.register_partition(key).unwrap();
        }
        let mut slots = Vec::new();
        let mut in_flight = None;
        for n in 0..40_u64 {
            let batch = batch(n, 1, 1_000);
            log.append(UnixMs(1_000 + n as i64), keys[n as usize % 2], batch).unwrap();
            if ahead || in_flight.is_none() {
                in_flight = log.take_slot().or(in_flight);
            }
            if n % 11 == 10
                && let Some(slot) = in_flight.take()
            {
                write(&mut disk, &slot).unwrap();
                log.slot_durable(slot.slot_no);
                slots.push(slot);
            }
        }
        while let Some(slot) = in_flight.take().or_else(|| log.take_slot()) {
            write(&mut disk, &slot).unwrap();
            log.slot_durable(slot.slot_no);
            slots.push(slot);
        }
        // The chain of CRCs holds: nothing is lost in between.
        drop(log);
        let log = start(&mut disk, 2, &settings).unwrap();
        assert_eq!(keys.map(|key| log.offsets(key).unwrap().high_watermark), [Offset(20); 2]);
        slots.into_iter().map(|slot| (slot.slot_no, slot.bytes)).collect::<Vec<_>>()
    });
    assert!(slots[0].len() > 4);
    assert_eq!(slots[0], slots[1]);
}

#[test]
fn staged_and_in_flight_bytes_are_bounded() {
    let mut disk = Disk::new();
    let mut log = start(&mut disk, 1, &small()).unwrap();
    let a = key(0, 0);
    log.register_partition(a).unwrap();
    let big = batch(1, 1, 100 << 10);
    let mut taken = 0;
    while log.append(NOW, a, big.clone()).is_ok() {
        taken += 1;
    }
    assert_eq!(taken, 10, "a mebibyte in all");
    assert_eq!(log.append(NOW, a, big.clone()), Err(AppendError::Busy));
    let slot = log.take_slot().unwrap();
    assert_eq!(log.append(NOW, a, big.clone()), Err(AppendError::Busy), "in flight counts");
    write(&mut disk, &slot).unwrap();
    log.slot_durable(slot.slot_no);
    log.append(NOW, a, big).unwrap();
}

#[test]
fn a_commit_takes_what_is_staged_up_to_its_target() {
    let mut disk = Disk::new();
    let mut log = start(&mut disk, 1, &small()).unwrap();
    let a = key(0, 0);
    log.register_partition(a).unwrap();
    for (bytes, slot_no) in [(7_000, 1), (7_000, 1), (7_000, 2), (300_000, 3), (10, 4), (10, 4)] {
        let appended = log.append(NOW, a, batch(1, 1, bytes)).unwrap();
        assert_eq!(appended.slot_no, SlotNo(slot_no));
    }
    let slots = flush(&mut log, &mut disk);
    assert_eq!(slots.len(), 4);
    for slot in &slots {
        assert_eq!(slot.bytes.len() % 4096, 0);
        assert_eq!(slot.pos % 4096, 0);
    }
    assert!(slots[2].new_file.as_ref().is_some_and(|f| f.size > 300_000));
}

#[test]
fn every_incarnation_has_the_next_leader_epoch() {
    let mut disk = Disk::new();
    for life in 1..5 {
        let log = start(&mut disk, life, &small()).unwrap();
        assert_eq!(log.leader_epoch(), LeaderEpoch(i32::from(life) - 1));
    }
}
