//! Jobs that copy keep to a part of what is spare: housekeeping must not be what fills a disk.

use broker_log::{CompactPolicy, Job, LogSettings, PartitionKey, Room, TopicNo, TopicPolicy};
use bytes::Bytes;
use wire::record_batch::{Codec, Record, RecordBatchBuilder};
use wire::time::UnixMs;

use crate::batches::{key, plain_producer};
use crate::disk::{flush, small};
use crate::world::World;

fn a() -> PartitionKey {
    key(0, 0)
}

fn settings() -> LogSettings {
    LogSettings { tail_bytes: 0, space_checkpoint_ms: u64::MAX, maintenance_ms: 1_000, ..small() }
}

fn spare(spare_bytes: u64) -> Room {
    Room { spare_bytes, free_bytes: spare_bytes, ..Room::ENDLESS }
}

/// The next job that copies, after all others.
fn next_copying(world: &mut World, room: Room) -> Option<Job> {
    world.pass(1_000);
    world.maintain();
    loop {
        flush(&mut world.log, &mut world.disk);
        world.log.set_room(room);
        let job = world.log.take_job(world.now)?;
        if matches!(job, Job::Compact(_) | Job::Rewrite(_)) {
            return Some(job);
        }
        let done = world.run(job);
        world.log.job_done(world.now, done);
    }
}

/// Bytes of all files of units.
fn unit_bytes(world: &World) -> u64 {
    let usage = world.usage();
    usage.unit_bytes + usage.dead_bytes
}

/// Runs a job that copies, and gives back what it made, in bytes.
fn run(world: &mut World, job: Job) -> u64 {
    let before = unit_bytes(world);
    let done = world.run(job);
    assert_eq!(world.log.job_done(world.now, done).rejected, []);
    unit_bytes(world) - before
}

#[test]
fn a_round_takes_up_no_more_than_half_of_what_is_spare() {
    let eager = LogSettings { l0_bytes_max: 0, rewrite_bytes_min: 1 << 30, ..settings() };
    for spare_bytes in [1 << 30, 400 << 10, 200 << 10, 150 << 10, 80 << 10, 0] {
        let mut world = World::new(eager.clone(), &[a(), key(1, 0)]);
        world.append(100, 2_500);
        let Some(job) = next_copying(&mut world, spare(spare_bytes)) else {
            assert!(spare_bytes <= 80 << 10, "{spare_bytes} is enough for one file");
            continue;
        };
        let made = run(&mut world, job);
        assert!(made <= spare_bytes / 2, "{made} of {spare_bytes}");
        assert!(made > 0 && spare_bytes > 80 << 10, "{made} of {spare_bytes}");
        world.check();
        // The shell has not looked since: what was made is not spare any more.
        if spare_bytes == 200 << 10 {
            let mut copied = made;
            while let Some(job) = world.log.take_job(world.now) {
                if matches!(job, Job::Rewrite(_)) {
                    copied += run(&mut world, job);
                } else {
                    let done = world.run(job);
                    world.log.job_done(world.now, done);
                }
            }
            assert!(copied <= spare_bytes, "{copied} of {spare_bytes}");
        }
    }
}

#[test]
fn below_the_floor_only_what_gives_back_more_is_copied() {
    let eager = LogSettings { l0_bytes_max: 0, rewrite_bytes_min: 1 << 30, ..settings() };
    let full = Room { ready_files: 0, below_floor: true, ..spare(1 << 20) };
    let mut world = World::new(eager, &[a(), key(1, 0), key(2, 0)]);
    world.append(100, 2_500);
    assert!(next_copying(&mut world, full).is_none(), "copies are as large as what is copied");
    assert_eq!(world.usage().wal_files, 1, "all others are sealed");
    for topic in [1, 2] {
        world.log.remove_topic(TopicNo(topic));
    }
    world.keys.truncate(1);
    let tight = Room { free_bytes: 10 << 10, ..full };
    assert!(next_copying(&mut world, tight).is_none(), "there is no room for a single copy");
    let before = unit_bytes(&world);
    let Some(job @ Job::Rewrite(_)) = next_copying(&mut world, full) else {
        panic!("units that are mostly dead give back more than they take");
    };
    let made = run(&mut world, job);
    assert!(made <= full.free_bytes / 2 && made < before / 2, "{made} of {before}");
    for _ in 0..2 {
        world.log.request_checkpoint();
        assert!(next_copying(&mut world, full).is_none());
    }
    assert!(unit_bytes(&world) < before / 2, "space was given back");
    world.check();
}

#[test]
fn a_round_of_sparse_units_has_an_end_too() {
    let short = LogSettings { rewrite_bytes_min: 60 << 10, ..settings() };
    let mut world = World::new(short, &[a(), key(1, 0), key(2, 0)]);
    world.append(150, 2_500);
    world.settle();
    for topic in [1, 2] {
        world.log.remove_topic(TopicNo(topic));
    }
    world.keys.truncate(1);
    let Some(Job::Rewrite(job)) = next_copying(&mut world, Room::ENDLESS) else {
        panic!("there is something to copy");
    };
    let bytes: u64 = job.live.iter().map(|live| live.extent.bytes).sum();
    assert!(bytes > 40 << 10 && bytes < 100 << 10, "{bytes}");
    let done = world.run(Job::Rewrite(job));
    world.log.job_done(world.now, done);
    world.settle();
    world.check();
}

fn keyed(i: u32) -> Bytes {
    let mut builder = RecordBatchBuilder::new();
    let (name, value) = ([b'k', (i % 5) as u8], vec![i as u8; 3_000]);
    let (key, value) = (Some(&name[..]), Some(&value[..]));
    builder.push(&Record { timestamp: UnixMs(1), key, value, headers: &[] });
    let sealed = builder.seal(plain_producer(), Codec::None, builder.records());
    Bytes::from(sealed.unwrap())
}

#[test]
fn a_partition_is_compacted_as_far_as_there_is_room() {
    let mut world = World::new(settings(), &[a()]);
    let compact = CompactPolicy {
        min_dirty_per_mille: 500,
        min_lag_ms: 0,
        max_lag_ms: u64::MAX,
        delete_retention_ms: 1_000,
    };
    let policy = TopicPolicy { compact: Some(compact), ..TopicPolicy::default() };
    world.log.set_policy(TopicNo(0), policy);
    for i in 0..200 {
        world.log.append(world.now.wall, a(), keyed(i)).unwrap();
        flush(&mut world.log, &mut world.disk);
    }
    let full = Room { below_floor: true, ..spare(1 << 30) };
    for room in [full, spare(60 << 10)] {
        assert!(next_copying(&mut world, room).is_none(), "{room:?}");
    }
    // Nobody knows before how much is dropped, so room for all of it is asked for.
    let mut passes = 0;
    // A round through all partitions ends before the next one begins.
    for _ in 0..30 {
        let Some(Job::Compact(job)) = next_copying(&mut world, spare(300 << 10)) else {
            continue;
        };
        let bytes: u64 = job.extents.iter().map(|(extent, _)| extent.bytes).sum();
        assert!(bytes > 0 && bytes <= 150 << 10, "{bytes}");
        run(&mut world, Job::Compact(job));
        passes += 1;
    }
    assert!(passes > 2, "{passes}");
    let left = world.log.partition_bytes(a()).unwrap();
    assert!(left < 200 * 3_000 / 4, "{left}");
}
