//! When partitions are compacted.

use super::*;

#[test]
fn rewriting_and_compaction_take_turns() {
    let eager = LogSettings { l0_bytes_max: 0, rewrite_bytes_min: 1, ..settings() };
    let mut world = compacted_topic_with(eager);
    world.log.register_partition(key(1, 0)).unwrap();
    for _ in 0..10 {
        put(&mut world, 20);
        for _ in 0..20 {
            world.append_to(key(1, 0), 2_500);
        }
        flush(&mut world.log, &mut world.disk);
    }
    world.maintain();
    let (done, _) = run_failing(&mut world, |_| false);
    let first_pass = done.iter().position(|job| matches!(job, Job::Compact(_))).unwrap();
    let rewritten = |jobs: &[Job]| jobs.iter().filter(|job| matches!(job, Job::Rewrite(_))).count();
    let (before, after) = done.split_at(first_pass);
    assert!(rewritten(before) <= 1 && rewritten(after) > 1, "{} first", rewritten(before));
}

/// Of a topic with little traffic, in a file that is far from full.
#[test]
fn a_file_ends_where_records_have_to_be_compacted() {
    let mut world = World::new(settings(), &[a(), key(1, 0)]);
    let policy = CompactPolicy {
        min_dirty_per_mille: 1_000,
        min_lag_ms: 0,
        max_lag_ms: 60_000,
        delete_retention_ms: 1_000,
    };
    let policy = TopicPolicy { compact: Some(policy), ..TopicPolicy::default() };
    world.log.set_policy(TopicNo(0), policy);
    let round = |world: &mut World| {
        world.maintain();
        world.settle();
        world.pass(1_000);
        world.maintain();
        world.settle();
    };
    put(&mut world, 6);
    world.pass(57_000);
    round(&mut world);
    assert_eq!((batches(&mut world).len(), world.usage().units), (6, 0), "not yet");
    world.pass(2_000);
    // Without another file nothing could be appended.
    world.log.set_room(Room { ready_files: 0, below_floor: false, ..Room::ENDLESS });
    round(&mut world);
    assert_eq!(batches(&mut world).len(), 6);
    world.log.set_room(Room { ready_files: 2, below_floor: false, ..Room::ENDLESS });
    // One round ends the file, the next compacts what is in it.
    round(&mut world);
    round(&mut world);
    assert_eq!(batches(&mut world).len(), 5);

    // Nobody else's records end a file, nor do those of a partition that is compacted by now.
    let units = world.usage().units;
    world.append_to(key(1, 0), 100);
    flush(&mut world.log, &mut world.disk);
    world.pass(100_000);
    round(&mut world);
    assert_eq!(world.usage().units, units);
}

/// However often it is compacted.
#[test]
fn what_is_compacted_and_deleted_grows_old() {
    const HOUR_MS: u64 = 3_600_000;
    let mut world = World::new(settings(), &[a()]);
    let compact = CompactPolicy {
        min_dirty_per_mille: 1,
        min_lag_ms: 0,
        max_lag_ms: u64::MAX,
        delete_retention_ms: 1_000,
    };
    let (compact, retention_ms) = (Some(compact), Some(24 * HOUR_MS));
    let policy = TopicPolicy { compact, retention_ms, ..TopicPolicy::default() };
    world.log.set_policy(TopicNo(0), policy);
    let mut passes = 0;
    for hour in 0..60 {
        for record in 0..30 {
            let batch = keyed(&[hour, record], &[7; 3_000]);
            world.log.append(world.now.wall, a(), batch).unwrap();
            flush(&mut world.log, &mut world.disk);
        }
        world.pass(HOUR_MS);
        world.maintain();
        while let Some(job) = world.log.take_job(world.now) {
            passes += u32::from(matches!(job, Job::Compact(_)));
            let done = world.run(job);
            assert_eq!(world.log.job_done(world.now, done).rejected, []);
        }
    }
    assert!(passes >= 59, "{passes} passes");
    // Ages are known to six hours, and the last file of an hour is sealed in the next one.
    let log_start = world.log.offsets(a()).unwrap().log_start;
    let expected = Offset(30 * (60 - 24 - 6 - 2))..=Offset(30 * (60 - 24));
    assert!(expected.contains(&log_start), "{log_start:?}");
}
