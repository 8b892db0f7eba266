//! What is damaged is found and named; the rest is served.

use std::ops::Range;

use bytes::Bytes;
use wire::offset::Offset;
use wire::time::UnixMs;

use broker_log::plain_records::PlainRecords;
use broker_log::sim_disk::{DiskError, FileName, SimDisk, UnitDraft};
use broker_log::store::{CheckpointId, CheckpointStore, UnitSource, UnitStore};
use broker_log::{
    Damage, Extent, ExtentRead, ExtentSearch, FileNo, FirstBatch, Job, JobDone, PartitionKey,
    ReadFailed, RewriteJob, SearchFor, UnitError, UnitId, UnitMeta, UnitNo, UnitTable,
};

use super::reads::rewrite_all;
use super::world::{AtOnce, World, Write, bytes_of, split_placed};
use crate::batches::{Rng, key};

/// Two partitions in three runs and five batches, in a WAL file that was sealed.
fn sealed() -> World {
    let mut world = World::new();
    let write = |partition, name| Write {
        key: key(0, partition),
        gap: 0,
        epoch: 1,
        bytes: bytes_of(name, 1 + name as u32 % 2, 12, 10 * name as i64),
    };
    let slots = vec![(5, vec![write(0, 1), write(1, 2), write(0, 3)]), (6, vec![write(0, 4)])];
    let mut job = world.wal_file(slots);
    job.size = job.slots_end + 1;
    world.seal(job);
    world
}

/// The same, rewritten.
fn made() -> World {
    let mut world = sealed();
    rewrite_all(&mut world);
    world
}

/// What compaction leaves: offsets are missing inside an extent.
fn with_gaps() -> World {
    let mut world = World::new();
    let write = |partition, name, gap| Write {
        key: key(0, partition),
        gap,
        epoch: 1,
        bytes: bytes_of(name, 1, 12, 10 * name as i64),
    };
    let slots = vec![
        (5, vec![write(0, 1, 0), write(1, 2, 0)]),
        (6, vec![write(0, 3, 4)]),
        (7, vec![write(0, 4, 2), write(0, 5, 0)]),
        (8, vec![write(0, 6, 3)]),
    ];
    let job = world.wal_file(slots);
    world.seal(job);
    world.join_extents(key(0, 0));
    rewrite_all(&mut world);
    world
}

fn only_unit(world: &World) -> (UnitMeta, FileName) {
    let meta = *world.units.values().next().unwrap();
    let name = match meta.id {
        UnitId::Unit(no) => FileName::Unit(no),
        UnitId::Wal(no) => FileName::Wal(no),
    };
    (meta, name)
}

/// Whether the unit's table is the one that was written.
fn table_is_whole(world: &mut World, unit: &UnitMeta) -> bool {
    let table = UnitTable::read(&mut world.disk, unit.id, unit.len);
    table.is_ok_and(|table| {
        let all = |row| table.entries(&mut world.disk, row).is_ok();
        table.meta == *unit && table.shards.iter().all(all)
    })
}

/// Reads a partition batch by batch, and jumps over what is damaged. Everything that is served is what was written.
fn damage_of_reads(world: &mut World, key: PartitionKey, extent: &Extent) -> Vec<Damage> {
    let mut found = Vec::new();
    let model = world.model[&key].clone();
    for offset in extent.base.0..=extent.last.0 {
        let from = Offset(offset);
        for max_bytes in [0, usize::MAX] {
            match world.read(key, *extent, from, max_bytes).run(&mut world.disk) {
                Ok(part) => {
                    let batches: Vec<_> = part.batches.into_iter().flat_map(split_placed).collect();
                    let wanted = model.iter().skip_while(|k| k.last < from);
                    let wanted: Vec<_> =
                        wanted.map(|k| k.bytes.clone()).take(batches.len()).collect();
                    assert_eq!(batches, wanted, "only what was written is served");
                    assert!(!batches.is_empty() && part.next > from);
                }
                Err(ReadFailed::Damaged(damage)) => found.push(damage),
                Err(ReadFailed::Source(error)) => panic!("{error}"),
            }
        }
    }
    found
}

fn damage_of_searches(world: &mut World, key: PartitionKey, extent: &Extent) -> Vec<Damage> {
    let mut found = Vec::new();
    let model = world.model[&key].clone();
    let unit = world.units[&extent.unit];
    let times = model.iter().map(|known| SearchFor::AtLeast(known.timestamp));
    for what in times.chain([SearchFor::Greatest]) {
        let search = ExtentSearch { key, unit, extent: *extent, from: extent.base, what };
        match search.run(&mut world.disk) {
            Ok(run) => {
                let late = |timestamp: UnixMs| match what {
                    SearchFor::AtLeast(wanted) => timestamp >= wanted,
                    SearchFor::Greatest => timestamp == extent.max_timestamp,
                };
                let first = model.iter().find(|known| late(known.timestamp)).unwrap();
                let batches = split_placed(run.batches);
                // A damaged run ends with its last intact batch, and the search goes on behind that.
                assert!(batches.contains(&first.bytes) || run.next <= first.base, "{what:?}");
            }
            Err(ReadFailed::Damaged(damage)) => found.push(damage),
            Err(ReadFailed::Source(error)) => panic!("{error}"),
        }
    }
    found
}

/// Flips bits of every byte of the only unit; `is_used` tells which bytes mean anything.
fn flip_all(mut world: World, is_used: impl Fn(&UnitMeta, u64) -> bool) {
    let (unit, name) = only_unit(&world);
    let extents = [key(0, 0), key(0, 1)].map(|key| (key, world.extents[&key][0]));
    assert!(table_is_whole(&mut world, &unit));
    for at in 0..unit.len {
        for bits in [0x01, 0xff] {
            world.disk.damage(name)[at as usize] ^= bits;
            let mut named = Vec::new();
            for (key, extent) in &extents {
                named.extend(damage_of_reads(&mut world, *key, extent));
            }
            let by_reads = named.len();
            for (key, extent) in &extents {
                named.extend(damage_of_searches(&mut world, *key, extent));
            }
            let is_table = at >= unit.entries_off;
            let is_entry = is_table && at < unit.dir_off;
            assert!(!is_entry || by_reads > 0, "byte {at}: an entry is held against its batches");
            let table_is_whole = table_is_whole(&mut world, &unit);
            assert_eq!(table_is_whole, !is_table, "byte {at}");
            let is_found = !table_is_whole || !named.is_empty();
            assert_eq!(is_found, is_used(&unit, at), "byte {at}");
            assert!(named.iter().all(|damage| (damage.from..damage.to).contains(&at)));
            if !is_table && is_found {
                assert!(named.iter().all(|damage| damage.key == named[0].key), "one partition");
            }
            let ids = [unit.id];
            let done = world.run(Job::Rewrite(world.rewrite_job(&ids)));
            let JobDone::Rewritten { inputs, made, damaged } = done else {
                panic!("damage does not keep a job from its end: {done:?}");
            };
            assert_eq!(damaged.is_empty(), !is_found, "byte {at}");
            assert_eq!(inputs.is_empty(), is_table, "what cannot be relied on is left out");
            for unit in &made.units {
                let UnitId::Unit(no) = unit.id else { continue };
                world.disk.lose(FileName::Unit(no));
            }
            world.disk.damage(name)[at as usize] ^= bits;
        }
    }
}

#[test]
fn every_flipped_bit_of_a_made_unit_is_found() {
    flip_all(made(), |_, _| true);
}

#[test]
fn every_flipped_bit_of_a_unit_with_gaps_is_found() {
    flip_all(with_gaps(), |_, _| true);
}

#[test]
fn every_flipped_bit_of_a_sealed_file_that_means_anything_is_found() {
    let world = sealed();
    let (unit, name) = only_unit(&world);
    let content = world.disk.content(name).unwrap();
    let batches: Vec<Bytes> =
        world.model.values().flatten().map(|known| known.bytes.clone()).collect();
    let places: Vec<_> = batches
        .iter()
        .map(|batch| {
            let at = content.windows(batch.len()).position(|window| window == &batch[..]).unwrap();
            at as u64..(at + batch.len()) as u64
        })
        .collect();
    assert!(unit.entries_off == 3 * 4096);
    flip_all(world, |unit, at| {
        at >= unit.entries_off || places.iter().any(|place| place.contains(&at))
    });
}

#[test]
fn a_unit_that_is_cut_off_or_another_one_is_found() {
    for missing in [1, 63, 64, 100, 400, usize::MAX] {
        let mut world = made();
        let (unit, name) = only_unit(&world);
        let len = (unit.len as usize).saturating_sub(missing);
        world.disk.damage(name).truncate(len);
        assert!(!table_is_whole(&mut world, &unit));
        for (key, extents) in world.extents.clone() {
            let named = damage_of_reads(&mut world, key, &extents[0]);
            assert!(len > 0 || named.len() >= 2 * world.model[&key].len());
            assert!(!damage_of_searches(&mut world, key, &extents[0]).is_empty());
        }
    }
    // A whole unit, but not the one that is meant.
    let mut world = made();
    let (unit, _) = only_unit(&world);
    let mut other = unit;
    other.crc ^= 1;
    let key = key(0, 0);
    let extent = world.extents[&key][0];
    let what = SearchFor::Greatest;
    let search = ExtentSearch { key, unit: other, extent, from: Offset(0), what };
    assert!(matches!(search.run(&mut world.disk), Err(ReadFailed::Damaged(_))));
    let mut job = world.rewrite_job(&[unit.id]);
    job.inputs[0] = other;
    let JobDone::Rewritten { inputs, made, damaged } = world.run(Job::Rewrite(job)) else {
        panic!("it is left out");
    };
    assert_eq!((inputs, made.units.len(), damaged.len()), (vec![], 0, 2));
}

#[test]
fn a_unit_of_another_version_is_named() {
    let mut world = made();
    let (unit, name) = only_unit(&world);
    world.disk.damage(name)[unit.len as usize - 60] = 2;
    let error = UnitTable::read(&mut world.disk, unit.id, unit.len).unwrap_err();
    assert_eq!(error, UnitError::Version { unit: unit.id, version: 2 });
}

#[test]
fn damaged_runs_are_copied_as_they_are_found_and_named_again() {
    let world = World::filled(4, 3, 2);
    let key = key(0, 0);
    let (victim, known) = {
        let extent = world.extents[&key][0];
        let known = world.model[&key][1].clone();
        assert!((extent.base..=extent.last).contains(&known.base));
        (extent.unit, known)
    };
    let UnitId::Wal(file_no) = victim else {
        panic!("a WAL file");
    };
    for (at, whole_run) in [(70, false), (7, true)] {
        let mut world = World::filled(4, 3, 2);
        let name = FileName::Wal(file_no);
        let content = world.disk.content(name).unwrap();
        let batch = &known.bytes;
        let pos = content.windows(batch.len()).position(|window| window == &batch[..]).unwrap();
        world.disk.damage(name)[pos + at] ^= 4;
        for _ in 0..2 {
            let ids: Vec<UnitId> = world.units.keys().copied().collect();
            let done = world.run(Job::Rewrite(world.rewrite_job(&ids)));
            let JobDone::Rewritten { inputs, made, damaged } = done else {
                panic!("damage does not keep a job from its end: {done:?}");
            };
            assert_eq!(inputs, ids);
            let [damage] = damaged[..] else {
                panic!("one place is damaged: {damaged:?}");
            };
            assert_eq!((damage.key, damage.base), (key, known.base));
            assert!(whole_run || damage.last == known.last);
            world.swap(&inputs, &made);
            let mut read = Vec::new();
            for batch in world.model[&key].clone() {
                let extents = world.extents[&key].clone();
                let extent = extents.iter().find(|e| e.last >= batch.base).unwrap();
                match world.read(key, *extent, batch.base, 0).run(&mut world.disk) {
                    Ok(part) => read.extend(part.batches),
                    Err(ReadFailed::Damaged(again)) => {
                        assert!(again.base >= damage.base && again.last <= damage.last);
                    }
                    Err(ReadFailed::Source(error)) => panic!("{error}"),
                }
            }
            let lost = |batch: &Offset| (damage.base..=damage.last).contains(batch);
            let mut kept = world.model[&key].clone();
            kept.retain(|batch| !lost(&batch.base));
            assert_eq!(read, kept.into_iter().map(|batch| batch.bytes).collect::<Vec<_>>());
        }
    }
}

/// A disk that cannot read some bytes of one unit.
struct BadSector {
    disk: SimDisk,
    unit: UnitId,
    bytes: Range<u64>,
}

impl UnitSource for BadSector {
    type Error = DiskError;

    fn read_at(&mut self, unit: UnitId, pos: u64, len: usize) -> Result<Bytes, DiskError> {
        let is_bad = pos < self.bytes.end && pos + len as u64 > self.bytes.start;
        if unit == self.unit && is_bad {
            return Err(DiskError::Io);
        }
        UnitSource::read_at(&mut self.disk, unit, pos, len)
    }
}

impl UnitStore for BadSector {
    type Writer = UnitDraft;

    fn units(&mut self) -> Result<Vec<(UnitNo, u64)>, DiskError> {
        self.disk.units()
    }

    fn create(&mut self, unit: UnitNo) -> Result<UnitDraft, DiskError> {
        self.disk.create(unit)
    }

    fn seal(&mut self, file_no: FileNo, pos: u64, footer: &[u8]) -> Result<(), DiskError> {
        self.disk.seal(file_no, pos, footer)
    }

    fn free(&mut self, unit: UnitId) -> Result<(), DiskError> {
        self.disk.free(unit)
    }
}

impl CheckpointStore for BadSector {
    type Error = DiskError;

    fn checkpoints(&mut self) -> Result<Vec<CheckpointId>, DiskError> {
        self.disk.checkpoints()
    }

    fn get_checkpoint(&mut self, id: CheckpointId) -> Result<Bytes, DiskError> {
        self.disk.get_checkpoint(id)
    }

    fn put_checkpoint(&mut self, id: CheckpointId, parts: &[Bytes]) -> Result<(), DiskError> {
        self.disk.put_checkpoint(id, parts)
    }

    fn remove_checkpoint(&mut self, id: CheckpointId) -> Result<(), DiskError> {
        self.disk.remove_checkpoint(id)
    }
}

#[test]
fn a_read_that_comes_to_a_bad_sector_serves_what_lies_before() {
    let world = sealed();
    let (unit, _) = only_unit(&world);
    let key = key(0, 0);
    let extent = world.extents[&key][0];
    let [first, second, third] = &world.model[&key][..] else {
        panic!("two batches in the first slot, one in the second");
    };
    let read = world.read(key, extent, Offset(0), usize::MAX);
    let again = ExtentRead { from: third.base, ..read };
    let mut source = BadSector { unit: unit.id, bytes: 8192..8193 + 4095, disk: world.disk };
    let part = read.run(&mut source).unwrap();
    let batches: Vec<_> = part.batches.into_iter().flat_map(split_placed).collect();
    assert_eq!(batches, [first.bytes.clone(), second.bytes.clone()]);
    assert_eq!(part.next, third.base);
    let failed = again.run(&mut source);
    assert!(matches!(failed, Err(ReadFailed::Source(DiskError::Io))), "{failed:?}");
}

#[test]
fn a_unit_with_a_bad_sector_is_left_out_and_stays() {
    let mut world = World::new();
    let write = |partition, name, bytes| Write {
        key: key(0, partition),
        gap: 0,
        epoch: 0,
        bytes: bytes_of(name, 1, bytes, 1),
    };
    // More than is read at a time lies before the sector: units are finished when it is come to.
    let slots = (0..9).map(|n| (n, (0..4).map(|i| write(0, i, 1 << 20)).collect())).collect();
    let good = world.wal_file_of(slots, 40 << 20);
    let bad = world.wal_file(vec![(10, vec![write(1, 1, 100)])]);
    let pos = u64::from(bad.runs[0].entry.pos);
    let (good, bad) = (world.seal(good).units[0].id, world.seal(bad).units[0].id);
    let before = world.disk.names().len();
    let job = RewriteJob { unit_bytes: 4 << 20, ..world.rewrite_job(&[good, bad]) };
    let first_unit = job.first_unit;
    let mut store = BadSector { disk: world.disk.clone(), unit: bad, bytes: pos..pos + 1 };
    let done = Job::Rewrite(job).run(&mut store, &mut AtOnce, &PlainRecords);
    let JobDone::Rewritten { inputs, made, damaged } = done else {
        panic!("the other one can be rewritten: {done:?}");
    };
    assert_eq!(inputs, [good]);
    let [damage] = damaged[..] else {
        panic!("one partition is concerned: {damaged:?}");
    };
    assert_eq!((damage.unit, damage.key), (bad, key(0, 1)));
    let later = |unit: &UnitMeta| unit.id > UnitId::Unit(UnitNo(first_unit.0 + 5));
    assert!(made.units.iter().all(later), "numbers that were given up are not used again");
    world.disk = store.disk;
    assert_eq!(world.disk.names().len(), before + made.units.len());
    world.swap(&inputs, &made);
    world.check();
}

#[test]
fn no_table_and_no_batch_makes_a_reader_panic_or_ask_for_much() {
    /// Answers every read with noise.
    struct Noise(Rng, usize);
    impl UnitSource for Noise {
        type Error = DiskError;
        fn read_at(&mut self, _: UnitId, _: u64, len: usize) -> Result<Bytes, DiskError> {
            self.1 = self.1.max(len);
            let mut bytes: Vec<u8> = (0..len.min(1 << 16)).map(|_| self.0.next() as u8).collect();
            // Now and then numbers that add up.
            if self.0.below(2) == 0 {
                bytes.iter_mut().skip(8).for_each(|byte| *byte = 0);
            }
            Ok(bytes.into())
        }
    }
    let world = made();
    let (unit, _) = only_unit(&world);
    let extent = world.extents[&key(0, 0)][0];
    let mut noise = Noise(Rng(1), 0);
    let mut rng = Rng(2);
    for _ in 0..3_000 {
        let mut number = || [0, 1, 64, rng.next(), u64::MAX][rng.below(5) as usize];
        let unit = UnitMeta {
            len: number(),
            entries_off: number(),
            dir_off: number(),
            entry_count: number() as u32,
            dir_count: number() as u32,
            id: UnitId::Unit(UnitNo(number())),
            ..unit
        };
        let (base, last) = (Offset(number() as i64), Offset(number() as i64));
        let (first, count) = (number() as u32, number() as u32);
        let extent = Extent { base, last, first, count, ..extent };
        let (from, key) = (Offset(number() as i64), key(0, 0));
        let read =
            ExtentRead { key, unit, extent, from, max_bytes: 1 << 20, first: FirstBatch::Always };
        assert!(read.run(&mut noise).is_err() || from > last);
        let what = SearchFor::AtLeast(UnixMs(from.0));
        assert!(ExtentSearch { key, unit, extent, from, what }.run(&mut noise).is_err());
    }
    assert!(noise.1 <= 16 << 20);
}
