//! Records that go: by age, by size, because somebody asks; and what stays.

use broker_log::sim_disk;
use broker_log::{
    DeleteRecordsError, FirstBatch, Job, LogSettings, PartitionKey, ReadError, TopicNo, TopicPolicy,
};
use wire::ids::Incarnation;
use wire::offset::Offset;

use crate::batches::key;
use crate::disk::{flush, small};
use crate::world::{START, World};

const A: (u32, u32) = (0, 0);
const HOUR: u64 = 3_600_000;

fn a() -> PartitionKey {
    key(A.0, A.1)
}

fn settings() -> LogSettings {
    LogSettings { tail_bytes: 0, space_checkpoint_ms: u64::MAX, maintenance_ms: 1_000, ..small() }
}

fn by_age(retention_ms: u64) -> TopicPolicy {
    TopicPolicy { retention_ms: Some(retention_ms), ..TopicPolicy::default() }
}

fn by_size(retention_bytes: u64) -> TopicPolicy {
    TopicPolicy { retention_bytes: Some(retention_bytes), ..TopicPolicy::default() }
}

/// Three files and more of two topics; the first half is an hour older.
fn filled() -> World {
    let mut world = World::new(settings(), &[a(), key(1, 0)]);
    world.maintain();
    world.append(30, 2_500);
    world.settle();
    world.pass(HOUR);
    world.append(30, 2_500);
    world.settle();
    world
}

fn round(world: &mut World) {
    world.pass(1_000);
    world.maintain();
    world.settle();
}

#[test]
fn what_is_too_old_by_append_time_goes() {
    let mut world = filled();
    world.log.set_policy(TopicNo(0), by_age(2 * HOUR));
    round(&mut world);
    assert_eq!(world.log.offsets(a()).unwrap().log_start, Offset(0), "nothing is two hours old");

    world.log.set_policy(TopicNo(0), by_age(HOUR / 2));
    round(&mut world);
    let start = world.log.offsets(a()).unwrap().log_start;
    let known = &world.model[&a()];
    // By extents, so what is in one with younger records stays; batches claim timestamps in 1970, which nobody looks at.
    assert!(start > known[10].0 && start <= known[30].0, "{start}");
    world.check();
    assert_eq!(world.log.offsets(key(1, 0)).unwrap().log_start, Offset(0), "another topic");
    let below = world.log.read(a(), Offset(start.0 - 1), 100, FirstBatch::Always);
    assert!(matches!(below, Err(ReadError::OutOfRange(_))));

    world.pass(HOUR);
    round(&mut world);
    let offsets = world.log.offsets(a()).unwrap();
    assert_eq!(offsets.log_start, offsets.high_watermark, "all of it, also of the open file");
    assert_eq!(world.log.partition_bytes(a()), Some(0));
    world.append_to(a(), 100);
    flush(&mut world.log, &mut world.disk);
    world.check();
}

#[test]
fn a_wall_clock_that_jumps_for_a_moment_deletes_nothing() {
    let mut world = filled();
    world.log.set_policy(TopicNo(0), by_age(48 * HOUR));
    let right = world.now.wall;
    world.now.wall.0 += 365 * 24 * HOUR as i64;
    round(&mut world);
    world.now.wall = right;
    round(&mut world);
    assert_eq!(world.log.offsets(a()).unwrap().log_start, Offset(0));
}

/// Time goes by in steps in which a clock that was set right comes to be believed.
fn hours(world: &mut World, hours: u64) {
    for _ in 0..hours * 2 {
        world.pass(HOUR / 2);
        round(world);
    }
}

fn start(world: &World) -> Offset {
    world.log.offsets(a()).unwrap().log_start
}

fn end(world: &World) -> Offset {
    world.log.offsets(a()).unwrap().high_watermark
}

#[test]
fn what_is_appended_while_the_clock_stands_behind_does_not_expire_early() {
    // Half a day behind, and a machine without a battery; in one life, some of it idle, and after starts with and without replay.
    for behind in [12 * HOUR as i64, START.0] {
        for (idle, restarts, has_checkpoint) in
            [(5, false, false), (0, true, false), (0, true, true)]
        {
            let mut world = World::new(settings(), &[a(), key(1, 0)]);
            world.maintain();
            world.append_to(key(1, 0), 500);
            world.settle();
            hours(&mut world, idle);
            if has_checkpoint {
                world.log.request_checkpoint();
                world.settle();
            }
            if restarts {
                world.restart();
            }
            world.now.wall.0 -= behind;
            world.maintain();
            for _ in 0..30 {
                world.append_to(a(), 2_500);
                flush(&mut world.log, &mut world.disk);
            }
            world.settle();
            world.now.wall.0 += behind;
            world.log.set_policy(TopicNo(0), by_age(6 * HOUR));
            hours(&mut world, 4);
            assert_eq!(start(&world), Offset(0), "{behind} {restarts} {has_checkpoint}");
            hours(&mut world, 4);
            assert_eq!(start(&world), end(&world), "{behind} {restarts} {has_checkpoint}");
            world.check();
        }
    }
}

#[test]
fn what_was_appended_while_the_clock_was_far_ahead_is_not_kept_for_ever() {
    let mut world = World::new(settings(), &[a()]);
    let month = 30 * 24 * HOUR as i64;
    world.maintain();
    world.append(3, 500);
    world.now.wall.0 += month;
    world.append(40, 2_500);
    world.settle();
    world.now.wall.0 -= month;
    world.append(40, 2_500);
    world.settle();
    world.log.set_policy(TopicNo(0), by_age(6 * HOUR));
    hours(&mut world, 4);
    assert_eq!(start(&world), Offset(0));
    hours(&mut world, 4);
    assert_eq!(start(&world), end(&world));
    world.check();
}

#[test]
fn starts_with_a_wrong_clock_do_not_make_it_right() {
    let mut world = filled();
    world.now.wall.0 += 365 * 24 * HOUR as i64;
    for life in 10..13 {
        world.log = sim_disk::start(
            &mut world.disk,
            Incarnation([life; 16]),
            &world.settings,
            world.now.wall,
        )
        .unwrap();
        world.log.set_policy(TopicNo(0), by_age(48 * HOUR));
        // No checkpoint: the next start sees this one's OPEN.
        world.pass(1_000);
        world.maintain();
        assert_eq!(start(&world), Offset(0), "life {life}");
    }
}

#[test]
fn what_is_beyond_the_size_goes_from_the_front() {
    let mut world = filled();
    let all = world.log.partition_bytes(a()).unwrap();
    world.log.set_policy(TopicNo(0), by_size(all));
    round(&mut world);
    assert_eq!(world.log.offsets(a()).unwrap().log_start, Offset(0));
    world.log.set_policy(TopicNo(0), by_size(all / 3));
    round(&mut world);
    let left = world.log.partition_bytes(a()).unwrap();
    assert!(left >= all / 3 && left < all * 2 / 3, "{left} of {all}");
    world.check();
    world.log.set_policy(TopicNo(0), TopicPolicy::default());
    round(&mut world);
    assert_eq!(world.log.partition_bytes(a()), Some(left));
}

#[test]
fn deleted_records_stay_deleted_once_a_checkpoint_says_so() {
    let mut world = filled();
    let offsets = world.log.offsets(a()).unwrap();
    let out_of_range = Err(DeleteRecordsError::OutOfRange(offsets));
    for beyond in [offsets.high_watermark.0 + 1, -1, i64::MAX] {
        assert_eq!(world.log.delete_records(a(), Offset(beyond)), out_of_range);
    }
    let unknown = world.log.delete_records(key(9, 9), Offset(0));
    assert_eq!(unknown, Err(DeleteRecordsError::UnknownPartition));
    let nothing = world.log.delete_records(a(), Offset(0)).unwrap();
    assert_eq!((nothing.log_start, nothing.answer_after), (Offset(0), None));

    // In the middle of a batch, in a sealed file.
    let (base, last, _) = *world.model[&a()].iter().find(|(base, last, _)| last > base).unwrap();
    let middle = Offset(base.0 + 1);
    let deleted = world.log.delete_records(a(), middle).unwrap();
    assert_eq!(deleted.log_start, middle);
    let wanted = deleted.answer_after.unwrap();
    let again = world.log.delete_records(a(), Offset(0)).unwrap();
    assert_eq!(again, deleted, "it is deleted, but not yet for good");
    let done: Vec<_> = world.settle().iter().filter_map(|applied| applied.checkpoint).collect();
    assert_eq!(done, [wanted]);
    let later = world.log.delete_records(a(), middle).unwrap();
    assert_eq!(later.answer_after, None);
    world.check();
    world.restart();
    assert_eq!(start(&world), middle);
    assert!(last >= middle);
    world.check();

    // While a checkpoint is built that does not have it, the next one is meant.
    world.append(1, 100);
    world.settle();
    world.log.request_checkpoint();
    let Some(Job::Checkpoint(job)) = world.log.take_job(world.now) else {
        panic!("nothing else is to be done");
    };
    let deleted = world.log.delete_records(a(), offsets.high_watermark).unwrap();
    assert_eq!(deleted.answer_after.unwrap().n, job.head.id.n + 1);
    let id = job.head.id;
    let done = world.run(Job::Checkpoint(job));
    assert_eq!(world.log.job_done(world.now, done).checkpoint, Some(id));
    let done: Vec<_> = world.settle().iter().filter_map(|applied| applied.checkpoint).collect();
    assert_eq!(done, [deleted.answer_after.unwrap()]);
    world.restart();
    assert_eq!(start(&world), offsets.high_watermark);
    world.check();
}

#[test]
fn what_is_deleted_while_a_job_runs_stays_deleted() {
    // A file that is being sealed, and one that is being rewritten.
    let eager = LogSettings { l0_bytes_max: 0, rewrite_bytes_min: 1, ..settings() };
    for settings in [settings(), eager] {
        let mut world = World::new(settings, &[a(), key(1, 0)]);
        world.append(40, 2_500);
        let mut seen = 0;
        let mut cut = 0;
        while let Some(job) = world.log.take_job(world.now) {
            seen += 1;
            let end = world.log.offsets(a()).unwrap().high_watermark;
            // All that there is goes while the fourth job runs.
            cut = if seen == 4 { end.0 } else { (cut + 4).min(end.0) };
            world.log.delete_records(a(), Offset(cut)).unwrap();
            if seen == 3 {
                world.log.remove_topic(TopicNo(1));
                world.keys.retain(|key| *key == a());
            }
            let done = world.run(job);
            assert_eq!(world.log.job_done(world.now, done).rejected, []);
            world.check();
            if seen > 30 {
                break;
            }
        }
        assert!(seen >= 4, "{seen}");
        world.settle();
        world.check();
        assert_eq!(world.log.offsets(a()).unwrap().log_start, Offset(cut));
        world.log.request_checkpoint();
        world.settle();
        world.restart();
        world.check();
        assert_eq!(world.log.topic_nos().count(), 1);
    }
}

#[test]
fn leader_epochs_begin_no_earlier_than_the_log() {
    let mut world = World::new(settings(), &[a()]);
    let mut starts = vec![Offset(0)];
    for _ in 0..4 {
        world.append(3, 200);
        world.restart();
        starts.push(world.log.offsets(a()).unwrap().high_watermark);
    }
    world.append(1, 100);
    let epochs = |world: &World| -> Vec<Offset> {
        world.log.epochs(a()).iter().map(|(_, start)| *start).collect()
    };
    assert_eq!(epochs(&world), starts);
    world.log.delete_records(a(), Offset(starts[2].0 + 1)).unwrap();
    let left = [Offset(starts[2].0 + 1), starts[3], starts[4]];
    assert_eq!(epochs(&world), left);
    world.settle();
    world.restart();
    assert_eq!(epochs(&world), left);
}
