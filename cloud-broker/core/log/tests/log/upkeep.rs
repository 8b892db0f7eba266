//! What the engine does as time goes by: markers, old files, sparse and small units, compaction, space.

mod compacted;

use broker_log::plain_records::PlainRecords;
use broker_log::sim_disk::{FileName, Trouble};
use broker_log::{
    AppendError, CompactPolicy, CorruptionKind, Damage, FileNo, FirstBatch, Job, JobDone, Lane,
    LogSettings, PartitionKey, RecoveryError, Room, TopicNo, TopicPolicy, UnitId, recover,
};
use bytes::Bytes;
use wire::offset::Offset;
use wire::record_batch::{Codec, Record, RecordBatchBuilder, RecordBatchHeader};
use wire::time::{MonoMs, UnixMs};

use crate::batches::{batch, key, plain_producer};
use crate::disk::{flush, read_plan, small};
use crate::world::{Hurry, World};

fn a() -> PartitionKey {
    key(0, 0)
}

fn settings() -> LogSettings {
    LogSettings { tail_bytes: 0, space_checkpoint_ms: u64::MAX, maintenance_ms: 1_000, ..small() }
}

fn slots(world: &mut World) -> usize {
    flush(&mut world.log, &mut world.disk).len()
}

#[test]
fn a_slot_without_batches_ends_every_burst_and_nothing_else_is_written() {
    let mut world = World::new(settings(), &[a()]);
    world.maintain();
    assert_eq!(slots(&mut world), 0, "an OPEN needs no marker");
    world.append_to(a(), 100);
    assert_eq!(slots(&mut world), 1);
    world.maintain();
    world.pass(999);
    world.maintain();
    assert_eq!(slots(&mut world), 0, "not yet");
    world.pass(1);
    assert_eq!(world.log.next_maintenance(), Some(world.now.mono));
    world.maintain();
    assert_eq!(slots(&mut world), 1);
    for _ in 0..100 {
        world.pass(10_000);
        world.maintain();
        assert_eq!(slots(&mut world), 0, "idle");
        let job = world.log.take_job(world.now);
        assert!(job.is_none(), "{job:?}");
    }
    // Now the last slot with a batch is as safe as any other.
    let mut damaged = world.disk.clone();
    damaged.bytes_mut(FileNo(0))[8192 + 100] ^= 1;
    let refused = recover(&mut damaged);
    let Err(RecoveryError::Corrupt(corruption)) = refused else {
        panic!("{refused:?}");
    };
    assert!(matches!(corruption.kind, CorruptionKind::Slots { .. }));
    world.restart();
    world.check();
}

#[test]
fn a_marker_that_cannot_be_written_is_tried_again_after_a_pause() {
    let mut world = World::new(settings(), &[a()]);
    world.append_to(a(), 100);
    flush(&mut world.log, &mut world.disk);
    world.maintain();
    // A disk that hangs.
    world.append_to(a(), 100);
    let slot = world.log.take_slot().unwrap();
    world.pass(1_000);
    world.maintain();
    assert_eq!(world.log.next_maintenance(), Some(world.now.mono + 1_000));
    crate::disk::write(&mut world.disk, &slot).unwrap();
    world.log.slot_durable(slot.slot_no);
    world.maintain();
    // What is left of the open file may be used on a full disk too.
    world.log.set_room(Room { ready_files: 0, below_floor: true, ..Room::ENDLESS });
    world.pass(1_000);
    world.maintain();
    assert_eq!(slots(&mut world), 1);
    // Without such a rest there is nothing to be done.
    world.log.set_room(Room { ready_files: 0, below_floor: false, ..Room::ENDLESS });
    while world.log.append(world.now.wall, a(), batch(1, 1, 3_900)).is_ok() {
        flush(&mut world.log, &mut world.disk);
    }
    while world.log.append(world.now.wall, a(), batch(1, 1, 10)).is_ok() {
        flush(&mut world.log, &mut world.disk);
    }
    world.maintain();
    world.pass(1_000);
    world.maintain();
    assert_eq!(slots(&mut world), 0);
    assert_eq!(world.log.next_maintenance(), Some(world.now.mono + 1_000));
}

#[test]
fn a_file_with_slots_to_come_is_not_too_old() {
    let age = LogSettings { wal_file_age_ms_max: 1_000, ..settings() };
    let mut world = World::new(age, &[a()]);
    world.append_to(a(), 100);
    flush(&mut world.log, &mut world.disk);
    // It fits the open file, and no other can be made.
    world.log.set_room(Room { ready_files: 0, below_floor: false, ..Room::ENDLESS });
    world.append_to(a(), 100);
    world.pass(1_000);
    world.maintain();
    let made = flush(&mut world.log, &mut world.disk);
    assert!(made.iter().all(|slot| slot.new_file.is_none()), "no room for another file");
}

#[test]
fn an_old_file_gets_no_more_slots() {
    let age = LogSettings { wal_file_age_ms_max: 60_000, ..settings() };
    let mut world = World::new(age, &[a()]);
    world.maintain();
    world.append(2, 500);
    world.maintain();
    world.pass(59_000);
    world.maintain();
    world.settle();
    assert_eq!(world.usage().units, 0);
    world.pass(1_000);
    world.maintain();
    world.settle();
    let usage = world.usage();
    assert_eq!((usage.units, usage.runs, usage.wal_files), (1, 0, 0));
    world.check();
    // Also without a single open file the log goes on, and a start finds everything.
    world.log.request_checkpoint();
    world.settle();
    let recovered = recover(&mut world.disk).unwrap();
    assert_eq!((recovered.report.slots, recovered.report.torn_tail), (0, None));
    world.append(2, 500);
    world.check();
    world.restart();
    world.check();
}

#[test]
fn a_unit_that_is_mostly_dead_is_copied_and_given_back() {
    let mut world = World::new(settings(), &[a(), key(1, 0), key(2, 0)]);
    world.append(60, 2_500);
    world.settle();
    world.give_back();
    let before = world.disk.used();
    for topic in [1, 2] {
        world.log.remove_topic(TopicNo(topic));
    }
    world.keys.truncate(1);
    world.give_back();
    world.give_back();
    world.check();
    let used = world.disk.used();
    assert!(used < before * 6 / 10, "{used} of {before}");
    assert!(world.disk.names().iter().any(|name| matches!(name, FileName::Unit(_))));
    world.restart();
    world.check();
    world.settle();
    assert!(world.log.take_job(world.now).is_none(), "what was copied is not sparse");
}

#[test]
fn many_small_units_become_one() {
    let eager = LogSettings { l0_bytes_max: 0, rewrite_bytes_min: 1, ..settings() };
    let mut world = World::new(eager, &[a(), key(1, 0)]);
    let mut most = 0;
    for _ in 0..40 {
        world.append(12, 2_500);
        world.settle();
        most = most.max(world.usage().units);
    }
    assert!(most <= 17, "{most} units");
    assert!(world.usage().extents <= 40, "{:?}", world.usage());
    world.check();
}

/// One record of a key.
fn keyed(name: &[u8], value: &[u8]) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    let record = Record { timestamp: UnixMs(1), key: Some(name), value: Some(value), headers: &[] };
    builder.push(&record);
    let sealed = builder.seal(plain_producer(), Codec::None, builder.records());
    Bytes::from(sealed.unwrap())
}

fn compacted_topic() -> World {
    compacted_topic_with(settings())
}

fn compacted_topic_with(settings: LogSettings) -> World {
    let mut world = World::new(settings, &[a()]);
    let policy = CompactPolicy {
        min_dirty_per_mille: 950,
        min_lag_ms: 0,
        max_lag_ms: u64::MAX,
        delete_retention_ms: 1_000,
    };
    let policy = TopicPolicy { compact: Some(policy), ..TopicPolicy::default() };
    world.log.set_policy(TopicNo(0), policy);
    world
}

fn put(world: &mut World, values: u32) {
    for i in 0..values {
        let name = [b'k', (i % 5) as u8];
        let value = vec![i as u8; 3_000];
        world.log.append(world.now.wall, a(), keyed(&name, &value)).unwrap();
        if i % 3 == 0 {
            flush(&mut world.log, &mut world.disk);
        }
    }
    flush(&mut world.log, &mut world.disk);
}

/// First and last offset of every batch.
fn batches(world: &mut World) -> Vec<(i64, i64)> {
    let offsets = world.log.offsets(a()).unwrap();
    let mut next = offsets.log_start;
    let mut found = Vec::new();
    while next < offsets.high_watermark {
        let plan = world.log.read(a(), next, 1 << 20, FirstBatch::Always).unwrap();
        for piece in &plan.pieces {
            let part = piece.read(&mut world.disk).unwrap();
            for mut bytes in part.batches {
                while !bytes.is_empty() {
                    let header = RecordBatchHeader::parse(&bytes).unwrap();
                    let base = header.base_offset;
                    assert!(base >= next);
                    next = base.plus(header.last_offset_delta + 1);
                    found.push((base.0, next.0 - 1));
                    let _ = bytes.split_to(header.total_len);
                }
            }
            if !part.is_whole {
                break;
            }
        }
    }
    found
}

#[test]
fn a_dirty_partition_is_compacted_and_a_clean_one_left_alone() {
    let mut world = compacted_topic();
    put(&mut world, 200);
    world.settle();
    let all = world.log.partition_bytes(a()).unwrap();
    assert_eq!(batches(&mut world).len(), 200, "not before maintenance says so");
    world.maintain();
    world.settle();
    let left = batches(&mut world);
    assert!(left.len() < 60, "{} batches", left.len());
    assert_eq!(left.last(), Some(&(199, 199)));
    assert!(world.log.partition_bytes(a()).unwrap() < all / 3);

    // A little more is not worth it; much more is.
    put(&mut world, 4);
    for (more, compacted) in [(30, false), (300, true)] {
        put(&mut world, more);
        world.settle();
        world.pass(1_000);
        world.maintain();
        let mut seen = false;
        while let Some(job) = world.log.take_job(world.now) {
            seen |= matches!(job, Job::Compact(_));
            let done = world.run(job);
            world.log.job_done(world.now, done);
        }
        assert_eq!(seen, compacted, "after {more} more");
    }
    let before = batches(&mut world);
    world.log.request_checkpoint();
    world.settle();
    world.restart();
    assert_eq!(batches(&mut world), before);
}

#[test]
fn the_last_of_many_partitions_is_compacted_on_an_idle_broker_too() {
    let mut world = compacted_topic();
    let last = key(0, 1_499);
    for partition in 0..1_500 {
        world.log.register_partition(key(0, partition)).unwrap();
    }
    for _ in 0..60 {
        world.log.append(world.now.wall, last, keyed(b"same", &[7; 3_000])).unwrap();
        flush(&mut world.log, &mut world.disk);
    }
    world.settle();
    let before = world.log.partition_bytes(last).unwrap();
    // Nothing happens but maintenance, and after each the engine is asked for jobs until it has none.
    for _ in 0..3 {
        world.pass(1_000);
        world.maintain();
        world.settle();
    }
    assert!(world.log.partition_bytes(last).unwrap() < before / 2);
}

#[test]
fn a_log_that_begins_where_compaction_left_nothing_can_be_copied() {
    let mut world = compacted_topic();
    // What ages is kept apart.
    let policy = CompactPolicy {
        min_dirty_per_mille: 950,
        min_lag_ms: 0,
        max_lag_ms: u64::MAX,
        delete_retention_ms: 1_000,
    };
    let retention_ms = Some(u64::MAX);
    let policy = TopicPolicy { compact: Some(policy), retention_ms, ..TopicPolicy::default() };
    world.log.set_policy(TopicNo(0), policy);
    let one = |world: &mut World, name: &[u8]| {
        world.log.append(world.now.wall, a(), keyed(name, &[7; 3_000])).unwrap();
        flush(&mut world.log, &mut world.disk);
    };
    for i in 0..120 {
        one(&mut world, &[i]);
    }
    world.settle();
    world.pass(30 * 86_400_000);
    one(&mut world, b"stays");
    put(&mut world, 100);
    world.settle();
    world.maintain();
    world.settle();
    let left = batches(&mut world);
    assert!(left.contains(&(120, 120)) && !left.contains(&(122, 122)), "{left:?}");
    // Now most of the unit is dead, and what is left of it begins with nothing.
    world.log.delete_records(a(), Offset(122)).unwrap();
    world.pass(1_000);
    world.maintain();
    let mut rewritten = 0;
    while let Some(job) = world.log.take_job(world.now) {
        rewritten += usize::from(matches!(job, Job::Rewrite(_)));
        let done = world.run(job);
        assert_eq!(world.log.job_done(world.now, done).rejected, []);
    }
    assert_eq!(rewritten, 1);
    let behind: Vec<_> = left.into_iter().filter(|(base, _)| *base > 122).collect();
    assert_eq!(batches(&mut world), behind);
}

#[test]
fn a_partition_that_cannot_be_compacted_is_left_alone_for_a_while() {
    let mut world = compacted_topic();
    put(&mut world, 200);
    world.settle();
    world.maintain();
    let mut tries = Vec::new();
    for _ in 0..1_500 {
        while let Some(job) = world.log.take_job(world.now) {
            let done = match job {
                Job::Compact(_) => {
                    tries.push(world.now.mono.0);
                    let error = String::from("damaged");
                    JobDone::Failed { lane: Lane::Compaction, doing: "compacting", error }
                }
                job => job.run(&mut world.disk, &mut Hurry, &PlainRecords),
            };
            world.log.job_done(world.now, done);
        }
        world.pass(1_000);
        world.maintain();
    }
    assert!(tries.len() == 3 && tries[1] >= 600_000, "{tries:?}");
}

#[test]
fn a_unit_that_cannot_be_read_is_copied_by_nobody() {
    let eager = LogSettings { l0_bytes_max: 0, rewrite_bytes_min: 1, ..settings() };
    let mut world = World::new(eager, &[a(), key(1, 0)]);
    world.append(20, 2_500);
    let mut told: Vec<Damage> = Vec::new();
    while let Some(job) = world.log.take_job(world.now) {
        if let Job::Rewrite(job) = &job
            && job.inputs[0].id == UnitId::Wal(FileNo(0))
        {
            let table = usize::try_from(job.inputs[0].entries_off).unwrap();
            world.disk.bytes_mut(FileNo(0))[table + 10] ^= 1;
        }
        let done = world.run(job);
        told.extend(world.log.job_done(world.now, done).damaged);
    }
    assert!(told.iter().all(|damage| damage.unit == UnitId::Wal(FileNo(0))) && !told.is_empty());
    for _ in 0..10 {
        world.pass(1_000);
        world.maintain();
        assert!(world.log.take_job(world.now).is_none());
    }
    let plan = world.log.read(a(), Offset(0), 1, FirstBatch::Always).unwrap();
    assert!(plan.pieces[0].read(&mut world.disk).is_err());
    let end = world.log.offsets(a()).unwrap().high_watermark;
    let plan = world.log.read(a(), Offset(end.0 - 1), 1, FirstBatch::Always).unwrap();
    assert_eq!(read_plan(&mut world.disk, &plan).len(), 1);
}

#[test]
fn a_unit_that_could_not_be_read_once_is_copied_later() {
    let eager = LogSettings { l0_bytes_max: 0, rewrite_bytes_min: 1, ..settings() };
    let mut world = World::new(eager, &[a(), key(1, 0)]);
    let first = UnitId::Wal(FileNo(0));
    world.append(60, 2_500);
    world.disk.set_unreadable(Some(FileName::Wal(FileNo(0))));
    let mut tries = Vec::new();
    for minute in 0..60 {
        while let Some(job) = world.log.take_job(world.now) {
            if let Job::Rewrite(job) = &job
                && job.inputs.iter().any(|input| input.id == first)
            {
                tries.push(minute);
            }
            let done = world.run(job);
            world.log.job_done(world.now, done);
        }
        if minute == 35 {
            world.disk.set_unreadable(None);
        }
        world.pass(60_000);
        world.maintain();
        flush(&mut world.log, &mut world.disk);
    }
    assert_eq!(tries, [0, 10, 30], "the rests double");
    for _ in 0..40 {
        world.pass(60_000);
        world.maintain();
        world.settle();
    }
    world.check();
    let plan = world.log.read(a(), Offset(0), 1, FirstBatch::Always).unwrap();
    world.disk.set_unreadable(Some(FileName::Wal(FileNo(0))));
    assert_eq!(read_plan(&mut world.disk, &plan).len(), 1, "it lies elsewhere");
}

#[test]
fn nothing_is_taken_that_might_not_fit() {
    let mut world = World::new(settings(), &[a()]);
    let append = |world: &mut World, bytes: usize| {
        world.log.append(world.now.wall, a(), batch(1, 1, bytes)).map(|_| ())
    };
    let payload = 60 << 10;
    for ready_files in [0, 1, 3] {
        world.log.set_room(Room { ready_files, below_floor: false, ..Room::ENDLESS });
        let mut taken = 0;
        while append(&mut world, 3_000).is_ok() {
            taken += 3_000;
            assert!(taken < 1 << 20, "all this with {ready_files} files");
            // Now and then something is written.
            if taken % 9_000 == 0
                && let Some(slot) = world.log.take_slot()
            {
                crate::disk::write(&mut world.disk, &slot).unwrap();
                world.log.slot_durable(slot.slot_no);
            }
        }
        let made = flush(&mut world.log, &mut world.disk);
        let made = made.iter().filter(|slot| slot.new_file.is_some()).count();
        assert!(made <= ready_files, "{made} of {ready_files}");
        assert!(taken >= ready_files * payload / 2, "{taken} with {ready_files}");
        assert_eq!(append(&mut world, 3_000), Err(AppendError::DiskFull));
    }
    world.log.set_room(Room { ready_files: 2, below_floor: true, ..Room::ENDLESS });
    assert_eq!(append(&mut world, 10), Err(AppendError::DiskFull));
    world.log.set_room(Room { ready_files: 2, below_floor: false, ..Room::ENDLESS });
    assert_eq!(append(&mut world, 10), Ok(()));
    // A slot that is larger than a file takes as much as several.
    flush(&mut world.log, &mut world.disk);
    world.log.set_room(Room { ready_files: 2, below_floor: false, ..Room::ENDLESS });
    assert_eq!(append(&mut world, 250 << 10), Err(AppendError::DiskFull));
    assert_eq!(append(&mut world, 90 << 10), Ok(()));
}

/// Runs all jobs for a while, except those that `fails` says. Gives back what was done and what failed, by job.
fn run_failing(world: &mut World, fails: impl Fn(&Job) -> bool) -> (Vec<Job>, usize) {
    let (mut done, mut failed) = (Vec::new(), 0);
    for _ in 0..60 {
        while let Some(job) = world.log.take_job(world.now) {
            let result = if fails(&job) {
                failed += 1;
                let error = String::from("for ever");
                JobDone::Failed { lane: job.lane(), doing: "trying", error }
            } else {
                done.push(job.clone());
                world.run(job)
            };
            world.log.job_done(world.now, result);
        }
        world.pass(1_000);
        world.maintain();
        flush(&mut world.log, &mut world.disk);
    }
    (done, failed)
}

#[test]
fn a_file_that_cannot_be_sealed_holds_up_neither_checkpoints_nor_space() {
    let mut world = World::new(settings(), &[a(), key(1, 0)]);
    world.append(30, 2_500);
    world.settle();
    world.give_back();
    let before = world.disk.used();
    let end = world.log.offsets(a()).unwrap().high_watermark;
    world.append(12, 2_500);
    world.log.remove_topic(TopicNo(1));
    world.keys.truncate(1);
    let deleted = world.log.delete_records(a(), end).unwrap();
    let awaited = deleted.answer_after.unwrap();
    world.append(1, 100);
    let (done, failed) = run_failing(&mut world, |job| matches!(job, Job::Seal(_)));
    assert!(failed > 1);
    let stored = |job: &Job| matches!(job, Job::Checkpoint(job) if job.head.id.n >= awaited.n);
    assert!(done.iter().any(stored), "the deletion is durable");
    world.log.request_checkpoint();
    run_failing(&mut world, |job| matches!(job, Job::Seal(_)));
    assert!(world.disk.used() < before, "{} of {before}", world.disk.used());
    world.restart();
    world.settle();
    world.check();
}

#[test]
fn a_checkpoint_does_not_wait_for_the_next_event_because_of_a_file_without_records() {
    let mut world = World::new(settings(), &[a()]);
    world.append(2, 500);
    world.restart();
    world.settle();
    // Now the last file of the life before has nothing but its OPEN.
    world.restart();
    world.log.request_checkpoint();
    world.settle();
    assert!(world.log.is_settled());
}

#[test]
fn one_unit_that_cannot_be_given_back_does_not_keep_the_others() {
    let mut world = World::new(settings(), &[a(), key(1, 0)]);
    world.append(60, 2_500);
    world.settle();
    world.log.remove_topic(TopicNo(0));
    world.log.remove_topic(TopicNo(1));
    let before = world.usage();
    assert!(before.units + before.dead_units > 3, "{before:?}");
    for _ in 0..2 {
        world.log.request_checkpoint();
        flush(&mut world.log, &mut world.disk);
        for _ in 0..10 {
            while let Some(job) = world.log.take_job(world.now) {
                if matches!(job, Job::Free(_)) {
                    // The same one each time.
                    world.disk.fail_after(0, Trouble::Io);
                }
                let done = world.run(job);
                world.log.job_done(world.now, done);
            }
            world.pass(60_000);
            world.maintain();
        }
    }
    let after = world.usage();
    assert!(after.units + after.dead_units <= 2, "{after:?}");
}

#[test]
fn units_that_cannot_be_copied_do_not_hold_up_compaction() {
    let eager = LogSettings { l0_bytes_max: 0, rewrite_bytes_min: 1, ..settings() };
    let mut world = compacted_topic_with(eager);
    put(&mut world, 200);
    world.maintain();
    let (done, failed) = run_failing(&mut world, |job| matches!(job, Job::Rewrite(_)));
    assert!(failed > 0);
    assert!(done.iter().any(|job| matches!(job, Job::Compact(_))));
    assert!(batches(&mut world).len() < 60);
}

#[test]
fn maintenance_says_when_it_wants_to_be_called() {
    let mut world = World::new(settings(), &[a()]);
    assert_eq!(world.log.next_maintenance(), Some(MonoMs(0)));
    world.maintain();
    assert_eq!(world.log.next_maintenance(), Some(MonoMs(1_000)));
    world.pass(1_000);
    world.maintain();
    assert_eq!(world.log.next_maintenance(), Some(MonoMs(2_000)));
}
