//! Sealing, rewriting and giving back.

use std::collections::BTreeSet;

use wire::offset::Offset;
use wire::time::UnixMs;

use broker_log::plain_records::PlainRecords;
use broker_log::sim_disk::{FileName, Trouble};
use broker_log::{
    FileNo, FreeJob, Job, JobDone, Lane, Pace, PartitionKey, Proceed, SealJob, SlotNo,
    UNIT_ENTRY_BATCHES_BYTES, UnitId, UnitKind, UnitNo, UnitTable, WalFileHeader,
};

use super::world::{AtOnce, World, Write, bytes_of};
use crate::batches::{Rng, key};

fn write(key: PartitionKey, name: u64, bytes: usize) -> Write {
    Write { key, gap: 0, epoch: 0, bytes: bytes_of(name, 1, bytes, name as i64) }
}

fn error(done: JobDone) -> String {
    let JobDone::Failed { error, .. } = done else {
        panic!("it should have failed: {done:?}");
    };
    error
}

fn unit_names(world: &World) -> Vec<FileName> {
    let is_unit = |name: &FileName| matches!(name, FileName::Unit(_) | FileName::UnitDraft(_));
    world.disk.names().into_iter().filter(is_unit).collect()
}

#[test]
fn a_sealed_file_keeps_its_slots_and_its_size_if_the_footer_fits() {
    let mut world = World::new();
    let batch = write(key(0, 0), 1, 100);
    let fits = world.wal_file(vec![(5, vec![batch.clone()])]);
    let fits_exactly = {
        let mut job = world.wal_file(vec![(6, vec![batch.clone()])]);
        job.size = job.slots_end + 48 + 24 + 64;
        job
    };
    let too_long = {
        let mut job = world.wal_file(vec![(7, vec![batch])]);
        job.size = job.slots_end + 48 + 24 + 63;
        job
    };
    for (job, len) in [
        (fits.clone(), fits.size),
        (fits_exactly.clone(), fits_exactly.size),
        (too_long.clone(), too_long.size + 1),
    ] {
        let name = FileName::Wal(job.file_no);
        let before = world.disk.content(name).unwrap();
        let (file_no, slots_end) = (job.file_no, job.slots_end as usize);
        let (first_slot, end_slot) = (job.first_slot, job.end_slot);
        let [meta] = world.seal(job).units[..] else {
            panic!("one file, one unit");
        };
        let after = world.disk.content(name).unwrap();
        assert_eq!((after.len() as u64, meta.len), (len, len));
        assert_eq!(after[..slots_end], before[..slots_end]);
        assert_eq!(WalFileHeader::decode(&after).unwrap().file_no, file_no);
        assert_eq!((meta.first_slot, meta.end_slot), (first_slot, end_slot));
        let table = UnitTable::read(&mut world.disk, meta.id, len).unwrap();
        assert_eq!(table.meta, meta);
    }
    world.check();
}

#[test]
fn runs_that_nobody_reads_any_more_are_not_in_the_table() {
    let mut world = World::new();
    let slots = (0..6).map(|n| (n, vec![write(key(0, n as u32 % 2), n as u64, 90)])).collect();
    let mut job = world.wal_file(slots);
    job.runs.retain(|run| run.entry.key == key(0, 1));
    job.setsum = job.runs.iter().fold(0, |sum, run| sum.wrapping_add(run.setsum));
    let made = world.seal(job);
    assert_eq!((made.units[0].entry_count, made.extents.len()), (3, 1));
    world.model.remove(&key(0, 0));
    world.check();
    // A file that holds nothing at all, only control slots, can be sealed too.
    let empty = world.wal_file(vec![(9, vec![])]);
    let made = world.seal(empty);
    assert_eq!((made.units[0].entry_count, made.units[0].max_append_ms), (0, UnixMs(0)));
    let UnitId::Wal(FileNo(1)) = made.units[0].id else {
        panic!("the second file");
    };
    assert_eq!(made.extents, []);
}

#[test]
fn a_file_whose_runs_cannot_be_there_is_not_sealed() {
    let mut world = World::new();
    let slots = (0..3).map(|n| (n, vec![write(key(0, 0), n as u64, 90)])).collect();
    let job = world.wal_file(slots);
    let before = world.disk.content(FileName::Wal(job.file_no)).unwrap();
    let mut beyond = job.clone();
    beyond.slots_end -= 4096;
    let mut twice = job.clone();
    twice.runs[1] = twice.runs[0];
    twice.setsum = twice.runs.iter().fold(0, |sum, run| sum.wrapping_add(run.setsum));
    let mut disordered = job.clone();
    disordered.runs.swap(0, 1);
    let lost = SealJob { runs: job.runs[1..].to_vec(), ..job.clone() };
    for (job, why) in [
        (beyond, "cannot be there"),
        (twice, "cannot be there"),
        (disordered, "cannot be there"),
        (lost, "not those that were written"),
    ] {
        let error = error(world.run(Job::Seal(job)));
        assert!(error.contains(why), "{error}");
    }
    world.disk.fail_after(0, Trouble::Io);
    error(world.run(Job::Seal(job.clone())));
    world.disk.heal();
    assert_eq!(world.disk.content(FileName::Wal(job.file_no)).unwrap(), before);
    world.seal(job);
    world.check();
}

#[test]
fn rewriting_keeps_every_batch_through_any_sequence_of_jobs() {
    for seed in 0..30 {
        let mut world = World::filled(seed, 6, 5);
        let mut rng = Rng(seed);
        for _ in 0..4 {
            let ids: Vec<UnitId> = world.units.keys().copied().collect();
            let inputs: Vec<UnitId> = ids.into_iter().filter(|_| rng.below(2) == 0).collect();
            let mut job = world.rewrite_job(&inputs);
            job.unit_bytes = [1, 9_000, 1 << 30][rng.below(3) as usize];
            job.own_unit_bytes = [0, 15_000, 1 << 30][rng.below(3) as usize];
            let JobDone::Rewritten { inputs: copied, made, damaged } = world.run(Job::Rewrite(job))
            else {
                panic!("good units can be rewritten");
            };
            assert_eq!((&copied, damaged), (&inputs, vec![]));
            world.swap(&inputs, &made);
            for unit in &made.units {
                assert_eq!(
                    unit.id,
                    UnitTable::read(&mut world.disk, unit.id, unit.len).unwrap().meta.id
                );
            }
            let freed = world.run(Job::Free(FreeJob { units: inputs.clone() }));
            assert!(matches!(freed, JobDone::Freed(freed) if freed == inputs));
            world.check();
        }
    }
}

#[test]
fn big_partitions_get_units_of_their_own_and_the_rest_shares() {
    let mut world = World::new();
    let mut slots = Vec::new();
    for n in 0..30_u32 {
        slots.push((
            100 + i64::from(n),
            vec![
                write(key(0, 1), u64::from(n), 2_000),
                write(key(0, 2), u64::from(n), 100),
                write(key(0, 3), u64::from(n), 100),
            ],
        ));
    }
    let job = world.wal_file(slots);
    let sealed = world.seal(job).units[0];
    let mut job = world.rewrite_job(&[sealed.id]);
    (job.own_unit_bytes, job.unit_bytes) = (40_000, 25_000);
    let JobDone::Rewritten { inputs, made, .. } = world.run(Job::Rewrite(job)) else {
        panic!("a good unit can be rewritten");
    };
    let kinds: Vec<_> = made.units.iter().map(|unit| unit.kind).collect();
    let one = UnitKind::OnePartition;
    // Small ones before and behind the big one share a unit, which is ended last.
    assert_eq!(kinds, [one, one, one, UnitKind::Evacuated]);
    let keys_of = |unit| {
        let of_unit = made.extents.iter().filter(|(_, extent)| extent.unit == unit);
        of_unit.map(|(key, _)| *key).collect::<BTreeSet<_>>()
    };
    assert_eq!(keys_of(made.units[0].id), BTreeSet::from([key(0, 1)]));
    assert_eq!(keys_of(made.units[3].id), BTreeSet::from([key(0, 2), key(0, 3)]));
    let numbers: BTreeSet<_> = made.units.iter().map(|unit| unit.id).collect();
    assert_eq!(numbers, (1..=4).map(|no| UnitId::Unit(UnitNo(no))).collect());
    for unit in &made.units {
        assert_eq!((unit.first_slot, unit.end_slot), (sealed.first_slot, sealed.end_slot));
    }
    world.swap(&inputs, &made);
    world.check();
}

#[test]
fn entries_of_made_units_are_cut_so_that_a_scan_is_short() {
    let mut world = World::new();
    let slots = (0..40).map(|n| (n, vec![write(key(0, 0), n as u64, 25_000)])).collect();
    let mut job = world.wal_file_of(slots, 2 << 20);
    // One slot, one run, of a size that no entry may have.
    let batches = (0..40).map(|n| write(key(0, 1), n, 25_000)).collect();
    let long = world.wal_file_of(vec![(50, batches)], 2 << 20);
    job.end_slot = SlotNo(40);
    let ids = [world.seal(job).units[0].id, world.seal(long).units[0].id];
    let mut job = world.rewrite_job(&ids);
    (job.own_unit_bytes, job.unit_bytes) = (1 << 30, 1 << 30);
    let JobDone::Rewritten { inputs, made, .. } = world.run(Job::Rewrite(job)) else {
        panic!("good units can be rewritten");
    };
    world.swap(&inputs, &made);
    let unit = made.units[0];
    let table = UnitTable::read(&mut world.disk, unit.id, unit.len).unwrap();
    let entries: Vec<_> = table
        .shards
        .iter()
        .flat_map(|row| table.entries(&mut world.disk, row).unwrap())
        .map(|entry| (entry.key, entry.batches, entry.len as usize <= UNIT_ENTRY_BATCHES_BYTES))
        .collect();
    let of = |partition| [10, 10, 10, 10].map(|batches| (key(0, partition), batches, true));
    assert_eq!(entries, [of(0), of(1)].concat());
    let extents: Vec<_> = made.extents.iter().map(|(_, e)| (e.first, e.count, e.last.0)).collect();
    assert_eq!(extents, [(0, 4, 39), (4, 4, 39)]);
    world.check();
}

#[test]
fn what_lies_below_the_log_start_is_not_copied() {
    let mut world = World::new();
    let slots = (0..10).map(|n| (n, vec![write(key(0, 0), n as u64, 90)])).collect();
    let job = world.wal_file(slots);
    let sealed = world.seal(job).units[0].id;
    let mut job = world.rewrite_job(&[sealed]);
    job.live[0].log_start = Offset(7);
    let JobDone::Rewritten { inputs, made, .. } = world.run(Job::Rewrite(job)) else {
        panic!("a good unit can be rewritten");
    };
    world.swap(&inputs, &made);
    assert_eq!(made.extents[0].1.base, Offset(7));
    world.model.get_mut(&key(0, 0)).unwrap().drain(..7);
    world.check();
    // Nothing that lives: no unit.
    let UnitId::Unit(made) = made.units[0].id else {
        panic!("a made unit");
    };
    let mut job = world.rewrite_job(&[UnitId::Unit(made)]);
    job.live[0].log_start = Offset(10);
    let JobDone::Rewritten { inputs, made, .. } = world.run(Job::Rewrite(job)) else {
        panic!("a good unit can be rewritten");
    };
    assert_eq!((inputs.len(), made.units.len(), made.extents.len()), (1, 0, 0));
}

#[test]
fn extents_end_where_other_units_hold_what_lies_between() {
    let mut world = World::new();
    let mut ids = Vec::new();
    for file in 0..4_u64 {
        let job = world.wal_file(vec![(file as i64, vec![write(key(0, 0), file, 90)])]);
        ids.push(world.seal(job).units[0].id);
    }
    let job = world.rewrite_job(&[ids[0], ids[1], ids[3]]);
    let JobDone::Rewritten { inputs, made, .. } = world.run(Job::Rewrite(job)) else {
        panic!("good units can be rewritten");
    };
    let extents: Vec<_> = made
        .extents
        .iter()
        .map(|(_, e)| (e.base.0, e.last.0, e.first, e.count, e.max_append_ms.0))
        .collect();
    assert_eq!(extents, [(0, 1, 0, 1, 1), (3, 3, 1, 1, 3)]);
    world.swap(&inputs, &made);
    world.check();
}

/// Goes on for so many writes.
struct Writes(usize);

impl Pace for Writes {
    fn wrote(&mut self, _: usize) -> Proceed {
        match self.0.checked_sub(1) {
            Some(left) => {
                self.0 = left;
                Proceed::Go
            }
            None => Proceed::Stop,
        }
    }
}

#[test]
fn a_job_that_does_not_come_to_its_end_leaves_nothing_behind() {
    let fresh = || {
        let mut world = World::filled(3, 5, 4);
        let ids: Vec<UnitId> = world.units.keys().copied().collect();
        let mut job = world.rewrite_job(&ids);
        (job.own_unit_bytes, job.unit_bytes) = (8_000, 4_000);
        world.next_unit = job.first_unit;
        (world, job)
    };
    let (mut world, job) = fresh();
    let mut whole = Writes(usize::MAX);
    let JobDone::Rewritten { made, .. } =
        Job::Rewrite(job).run(&mut world.disk, &mut whole, &PlainRecords)
    else {
        panic!("good units can be rewritten");
    };
    assert!(made.units.len() > 3);
    let writes = usize::MAX - whole.0;
    for stop_at in 0..writes {
        let (mut world, job) = fresh();
        let done = Job::Rewrite(job).run(&mut world.disk, &mut Writes(stop_at), &PlainRecords);
        let JobDone::Failed { lane: Lane::Compaction, error, .. } = done else {
            panic!("it was stopped: {done:?}");
        };
        assert_eq!(error, "stopped");
        assert_eq!(unit_names(&world), []);
        world.check();
    }
    for space in [0, 4_000, 20_000] {
        let (mut world, job) = fresh();
        world.disk.set_space(Some(world.disk.used() + space));
        error(Job::Rewrite(job.clone()).run(&mut world.disk, &mut AtOnce, &PlainRecords));
        assert_eq!(unit_names(&world), []);
        world.disk.set_space(None);
        let done = world.run(Job::Rewrite(job));
        assert!(matches!(done, JobDone::Rewritten { .. }), "{done:?}");
    }
}

#[test]
fn a_unit_that_is_not_what_was_sealed_is_not_passed_on() {
    let mut world = World::new();
    let batches = (0..4).map(|n| write(key(0, n as u32), n, 90)).collect();
    let mut job = world.wal_file(vec![(1, batches)]);
    // As if one batch had been replaced by another on its way into the file.
    job.runs[2].setsum ^= 1;
    job.setsum = job.runs.iter().fold(0, |sum, run| sum.wrapping_add(run.setsum));
    let sealed = world.seal(job).units[0].id;
    let job = world.rewrite_job(&[sealed]);
    let error = error(world.run(Job::Rewrite(job)));
    assert!(error.contains("not what was read"), "{error}");
    assert_eq!(unit_names(&world), []);
}

#[test]
fn what_is_given_back_is_gone() {
    let mut world = World::filled(1, 3, 2);
    super::reads::rewrite_all(&mut world);
    let units: Vec<UnitId> = world
        .disk
        .names()
        .iter()
        .filter_map(|name| match name {
            FileName::Unit(no) => Some(UnitId::Unit(*no)),
            FileName::Wal(no) => Some(UnitId::Wal(*no)),
            _ => None,
        })
        .collect();
    assert!(units.len() > 3);
    // Twice: after a crash nobody knows how far it came.
    for _ in 0..2 {
        let done = world.run(Job::Free(FreeJob { units: units.clone() }));
        assert!(matches!(done, JobDone::Freed(freed) if freed == units));
        let left = world.disk.names();
        let is_left = |name: &FileName| matches!(name, FileName::Unit(_) | FileName::Wal(_));
        assert!(!left.iter().any(is_left), "{left:?}");
    }
}

#[test]
fn an_extent_does_not_hold_what_was_appended_hours_apart() {
    const HOUR: i64 = 60 * 60 * 1000;
    let mut world = World::new();
    let mut ids = Vec::new();
    for file in 0..5_i64 {
        let batches = vec![write(key(0, 0), file as u64, 90), write(key(0, 1), 9, 90)];
        let job = world.wal_file(vec![(file * 4 * HOUR, batches)]);
        ids.push(world.seal(job).units[0].id);
    }
    let done = world.run(Job::Rewrite(world.rewrite_job(&ids)));
    let JobDone::Rewritten { inputs, made, .. } = done else {
        panic!("good units can be rewritten: {done:?}");
    };
    let extents: Vec<_> = made
        .extents
        .iter()
        .map(|(key, e)| (key.partition.0, e.base.0, e.last.0, e.max_append_ms.0 / HOUR))
        .collect();
    let of = |key| [(key, 0, 1, 4), (key, 2, 2, 8), (key, 3, 4, 16)];
    assert_eq!(extents, [of(0), of(1)].concat());
    world.swap(&inputs, &made);
    world.check();
}

#[test]
fn a_job_is_stopped_while_it_reads_too() {
    struct NoReads;
    impl Pace for NoReads {
        fn wrote(&mut self, _: usize) -> Proceed {
            panic!("nothing is written before the first runs were read");
        }
        fn read(&mut self, bytes: usize) -> Proceed {
            assert!((128 << 10..256 << 10).contains(&bytes), "a little at a time: {bytes}");
            Proceed::Stop
        }
    }
    let mut world = World::new();
    let batches = (0..3).map(|n| write(key(0, 0), n, 1 << 20)).collect();
    let job = world.wal_file_of(vec![(1, batches)], 4 << 20);
    let sealed = world.seal(job).units[0].id;
    let job = Job::Rewrite(world.rewrite_job(&[sealed]));
    assert_eq!(error(job.run(&mut world.disk, &mut NoReads, &PlainRecords)), "stopped");
    assert_eq!(unit_names(&world), []);
}
