//! The life of a WAL file: rolled, sealed, rewritten, dead, given back; and checkpoints, from which a start goes on.

use broker_log::sim_disk::{DiskError, FileName};
use broker_log::{CheckpointBad, Job, JobDone, LogSettings, PartitionKey, RecoveryError, recover};
use wire::offset::Offset;
use wire::record_batch::crc32c;
use wire::time::MonoMs;

use crate::batches::key;
use crate::disk::small;
use crate::world::World;

fn keys() -> Vec<PartitionKey> {
    vec![key(0, 0), key(0, 1), key(3, 0)]
}

/// No rewriting, and checkpoints only when they are asked for.
fn quiet() -> LogSettings {
    LogSettings { tail_bytes: 0, space_checkpoint_ms: u64::MAX, ..small() }
}

/// Short runs are rewritten as soon as their file is sealed.
fn eager() -> LogSettings {
    LogSettings {
        l0_bytes_max: 0,
        rewrite_bytes_min: 128 << 10,
        own_unit_bytes: 40 << 10,
        ..quiet()
    }
}

#[test]
fn a_rolled_file_is_sealed_and_read_through_its_index() {
    let mut world = World::new(quiet(), &keys());
    world.append(60, 2_000);
    let runs_before = world.usage().runs;
    world.settle();
    let usage = world.usage();
    assert!(usage.units >= 3 && usage.extents >= 9, "{usage:?}");
    assert!(usage.runs < runs_before / 2, "only the open file's runs stay in memory");
    assert_eq!(usage.wal_files, 1);
    world.check();
    // Nothing counts yet but the WAL itself.
    world.restart();
    assert_eq!(world.usage().units, 0);
    world.check();
    world.settle();
    assert!(world.usage().units > usage.units, "the last file of the life before is sealed too");
    world.check();
}

#[test]
fn a_start_goes_on_from_the_checkpoint() {
    for settings in [quiet(), eager()] {
        let mut world = World::new(settings, &keys());
        world.append(40, 2_000);
        world.settle();
        world.log.request_checkpoint();
        assert!(!world.log.is_settled());
        world.settle();
        assert!(world.log.is_settled());

        let recovered = recover(&mut world.disk).unwrap();
        assert_eq!((recovered.report.slots, recovered.report.checkpoint.is_some()), (0, true));
        assert_eq!(recovered.rewrite, None);
        world.restart();
        world.check();

        // What comes after it is replayed, through several lives.
        for _ in 0..3 {
            world.append(12, 1_500);
            world.restart();
            world.check();
        }
        let recovered = recover(&mut world.disk).unwrap();
        assert!(recovered.report.slots > 30, "{:?}", recovered.report);
        assert_eq!(recovered.report.incarnations, 5);
        world.settle();
        world.check();
        world.log.request_checkpoint();
        world.settle();
        world.restart();
        world.check();
    }
}

#[test]
fn short_runs_are_rewritten_and_their_files_given_back() {
    let mut world = World::new(eager(), &keys());
    world.append(150, 2_000);
    world.settle();
    let names = |world: &World| world.disk.names();
    let wal_files = |world: &World| {
        let is_wal = |name: &FileName| matches!(name, FileName::Wal(_));
        names(world).iter().filter(|name| is_wal(name)).count()
    };
    let before = wal_files(&world);
    assert!(before > 12, "{before}");
    world.check();
    world.give_back();
    let usage = world.usage();
    assert!(wal_files(&world) <= 3, "{usage:?}");
    assert_eq!(usage.dead_units, 0, "{usage:?}");
    assert!(names(&world).iter().any(|name| matches!(name, FileName::Unit(_))));
    world.check();
    world.restart();
    world.check();
    world.append(20, 2_000);
    world.settle();
    world.check();
}

#[test]
fn nothing_is_given_back_while_somebody_reads_it() {
    let mut world = World::new(eager(), &keys());
    world.append(60, 2_000);
    let run = world.log.read(key(0, 0), Offset(0), 1 << 20, broker_log::FirstBatch::Always);
    let run = run.unwrap();
    world.settle();
    world.give_back();
    let dead = world.usage().dead_units;
    assert!(dead > 5, "{:?}", world.usage());
    let batches = crate::disk::read_plan(&mut world.disk, &run);
    assert!(batches.len() > 20);
    drop(run);
    world.give_back();
    assert_eq!(world.usage().dead_units, 0);
    world.check();
}

#[test]
pub fn the_older_checkpoint_stays_good_through_a_start() {
    let mut world = World::new(quiet(), &keys());
    world.append(40, 2_000);
    world.settle();
    world.log.request_checkpoint();
    world.settle();
    // Its files are mostly dead, so they are copied; the newer checkpoint knows the copies only.
    world.log.remove_topic(broker_log::TopicNo(0));
    world.keys.retain(|key| key.topic_no.0 == 3);
    world.settle();
    world.append(2, 500);
    world.log.request_checkpoint();
    world.settle();
    let newest = recover(&mut world.disk).unwrap().report.checkpoint.unwrap();
    let is_newest = |name: &FileName| matches!(name, FileName::Checkpoint(id) if id.n == newest);

    for damaged in [false, true] {
        if damaged {
            let name = world.disk.names().into_iter().find(is_newest).unwrap();
            world.disk.damage(name)[70] ^= 1;
        }
        world.restart();
        world.check();
        let recovered = recover(&mut world.disk).unwrap();
        assert_eq!(recovered.report.checkpoint, Some(newest - u64::from(damaged)));
        assert_eq!(recovered.damaged.len(), usize::from(damaged));
    }
    // A damaged one is replaced, and never mistaken for a good one.
    world.give_back();
    world.restart();
    world.check();
    assert!(!world.disk.names().iter().any(is_newest));
    for name in world.disk.names() {
        if let FileName::Checkpoint(_) = name {
            world.disk.damage(name)[70] ^= 1;
        }
    }
    assert!(matches!(recover(&mut world.disk), Err(broker_log::RecoveryError::NoCheckpoint(_))));
}

#[test]
fn a_checkpoint_that_cannot_be_read_is_passed_over_and_replaced() {
    let mut world = World::new(quiet(), &keys());
    let checkpoints = |world: &World| {
        let names = world.disk.names().into_iter();
        names.filter(|name| matches!(name, FileName::Checkpoint(_))).collect::<Vec<_>>()
    };
    world.append(10, 2_000);
    world.log.request_checkpoint();
    world.settle();
    let first = checkpoints(&world)[0];
    world.append(10, 2_000);
    // With no other one, there is nothing to go on from; it may be readable the next time.
    world.disk.set_unreadable(Some(first));
    let refused = recover(&mut world.disk);
    assert!(matches!(refused, Err(RecoveryError::Source(DiskError::Io))), "{refused:?}");
    world.disk.set_unreadable(None);
    world.log.request_checkpoint();
    world.settle();
    world.append(1, 100);
    let newest = *checkpoints(&world).iter().find(|name| **name != first).unwrap();
    world.disk.set_unreadable(Some(newest));
    let recovered = recover(&mut world.disk).unwrap();
    assert!(matches!(recovered.damaged[..], [bad] if bad.bad == CheckpointBad::Unreadable));
    world.restart();
    world.check();
    world.disk.set_unreadable(None);
    assert!(!world.log.is_settled(), "another one is asked for");
    world.settle();
    assert!(!checkpoints(&world).contains(&newest));
    assert_eq!(checkpoints(&world).len(), 2);
    world.restart();
    world.check();
}

/// A start of an older version would bring back what was deleted, and give back the units that the other one has made.
#[test]
fn a_checkpoint_of_another_version_is_not_passed_over() {
    let mut world = World::new(quiet(), &keys());
    for _ in 0..2 {
        world.append(10, 2_000);
        world.log.request_checkpoint();
        world.settle();
    }
    let mut names: Vec<_> = world.disk.names();
    names.retain(|name| matches!(name, FileName::Checkpoint(_)));
    names.sort_by_key(|name| match name {
        FileName::Checkpoint(id) => id.n,
        _ => 0,
    });
    let [older, newest] = names[..] else {
        panic!("two are kept: {names:?}");
    };
    let rewrite = |world: &mut World, name, version: u8| {
        let mut bytes = world.disk.damage(name);
        bytes[4] = version;
        let sections = u32::from_le_bytes(bytes[48..52].try_into().unwrap()) as usize;
        let covered = [&bytes[..60], &bytes[64..64 + sections * 32]].concat();
        bytes[60..64].copy_from_slice(&crc32c(&covered).to_le_bytes());
    };
    rewrite(&mut world, newest, 2);
    let refused = recover(&mut world.disk);
    assert!(matches!(refused, Err(RecoveryError::CheckpointVersion(_))), "{refused:?}");
    // An older one is of no matter as long as the newest is good.
    rewrite(&mut world, newest, 1);
    rewrite(&mut world, older, 2);
    world.restart();
    world.check();
}

#[test]
fn a_deleted_topic_gives_its_space_back() {
    let mut world = World::new(eager(), &keys());
    world.append(100, 3_000);
    world.settle();
    world.give_back();
    let before = world.disk.used();
    for topic in [0, 3] {
        world.log.remove_topic(broker_log::TopicNo(topic));
    }
    world.keys.clear();
    world.give_back();
    let usage = world.usage();
    assert_eq!((usage.units, usage.dead_units, usage.live_bytes), (0, 0, 0), "{usage:?}");
    assert!(world.disk.used() < before / 2, "{} of {before}", world.disk.used());
    world.restart();
    assert_eq!(world.log.topic_nos().count(), 0);
}

#[test]
fn a_file_and_a_log_of_many_partitions_take_several_steps() {
    let keys: Vec<PartitionKey> = (0..200).map(|partition| key(0, partition)).collect();
    let steps = LogSettings { step_entries: 50, wal_file_age_ms_max: 1_000, ..quiet() };
    let mut world = World::new(steps, &keys);
    keys.iter().for_each(|key| world.append_to(*key, 100));
    crate::disk::flush(&mut world.log, &mut world.disk);
    world.pass(1_000);
    world.log.maintain(world.now);
    // Each partition counts as four, and as one for its run or its extent.
    for asked in ["seal", "checkpoint"] {
        if asked == "checkpoint" {
            world.log.request_checkpoint();
        }
        let mut steps = 0;
        let job = loop {
            match world.log.take_job(world.now) {
                Some(job) => break job,
                None => assert_eq!(world.log.next_maintenance(), Some(MonoMs(0)), "{asked}"),
            }
            steps += 1;
            // What is appended meanwhile is in none of them, and is answered.
            world.append_to(keys[steps * 7 % 200], 100);
            crate::disk::flush(&mut world.log, &mut world.disk);
        };
        assert!(steps >= 15, "{asked}: {steps}");
        let done = world.run(job);
        world.log.job_done(world.now, done);
    }
    world.settle();
    world.check();
    world.restart();
    world.check();
}

#[test]
fn what_is_rewritten_is_collected_in_several_steps() {
    let keys: Vec<PartitionKey> = (0..200).map(|partition| key(0, partition)).collect();
    let steps =
        LogSettings { step_entries: 50, wal_file_age_ms_max: 1_000, l0_entries_max: 50, ..quiet() };
    let mut world = World::new(steps, &keys);
    keys.iter().for_each(|key| world.append_to(*key, 100));
    crate::disk::flush(&mut world.log, &mut world.disk);
    world.pass(1_000);
    world.log.maintain(world.now);
    let (mut steps, mut done) = (0, Vec::new());
    while done.last() != Some(&"rewrite") {
        let Some(job) = world.log.take_job(world.now) else {
            assert_eq!(world.log.next_maintenance(), Some(MonoMs(0)), "after {done:?}");
            steps += 1;
            // Appends go on.
            world.append_to(keys[steps * 7 % 200], 100);
            crate::disk::flush(&mut world.log, &mut world.disk);
            continue;
        };
        match &job {
            Job::Seal(_) => done.push("seal"),
            Job::Rewrite(job) => {
                assert_eq!(job.live.len(), 200);
                done.push("rewrite");
            }
            other => panic!("{other:?}"),
        }
        let result = world.run(job);
        assert_eq!(world.log.job_done(world.now, result).rejected, []);
    }
    // To collect for sealing, to take in and to collect again: each partition counts as four, and as one for what it has.
    assert!(steps >= 50, "{steps}");
    world.settle();
    world.check();
    world.restart();
    world.check();
}

#[test]
fn what_is_deleted_while_it_is_collected_is_given_back() {
    let keys: Vec<PartitionKey> = (0..200).map(|partition| key(0, partition)).collect();
    let steps = LogSettings { step_entries: 50, l0_entries_max: 50, ..eager() };
    let mut in_vain = 0;
    for removed_in in [1, 5, 12] {
        let mut world = World::new(steps.clone(), &keys);
        keys.iter().for_each(|key| world.append_to(*key, 2_000));
        crate::disk::flush(&mut world.log, &mut world.disk);
        let mut idle = 0;
        while idle < 30 {
            let Some(job) = world.log.take_job(world.now) else {
                idle += 1;
                if idle == removed_in {
                    world.log.remove_topic(broker_log::TopicNo(0));
                }
                continue;
            };
            if let Job::Rewrite(job) = &job {
                in_vain += job.live.len();
            }
            let result = world.run(job);
            assert_eq!(world.log.job_done(world.now, result).rejected, []);
        }
        world.keys.clear();
        world.give_back();
        let usage = world.usage();
        assert_eq!((usage.units, usage.dead_units, usage.live_bytes), (0, 0, 0), "{usage:?}");
    }
    assert!(in_vain > 0, "some were collected before");
}

#[test]
fn a_job_that_fails_is_tried_again_after_a_rest() {
    let mut world = World::new(eager(), &keys());
    world.append(40, 2_000);
    let mut asked = 0;
    let mut rests = 0;
    while asked < 60 {
        crate::disk::flush(&mut world.log, &mut world.disk);
        let Some(job) = world.log.take_job(world.now) else {
            rests += 1;
            world.pass(100);
            world.maintain();
            continue;
        };
        asked += 1;
        let done = match asked % 3 {
            0 => world.run(job),
            _ => JobDone::Failed { lane: job.lane(), doing: "nothing", error: String::new() },
        };
        world.log.job_done(world.now, done);
        if asked >= 30 && world.usage().l0_bytes == 0 {
            break;
        }
    }
    assert!(rests > asked, "{rests} rests for {asked} jobs");
    world.pass(60_000);
    world.settle();
    world.check();
    assert!(world.usage().units > 0);
}
