//! Reads and searches of extents agree with the list of batches.

use bytes::Bytes;
use wire::offset::Offset;
use wire::time::UnixMs;

use broker_log::{Extent, ExtentRead, ExtentSearch, FirstBatch, Job, JobDone, SearchFor, UnitId};

use super::world::{Known, World, Write, bytes_of, split_placed};
use crate::batches::{Rng, key};

/// Sealed files on their own, then all of them rewritten.
fn worlds(seed: u64) -> [World; 2] {
    let sealed = World::filled(seed, 4, 3);
    let mut rewritten = World::filled(seed, 4, 3);
    rewrite_all(&mut rewritten);
    [sealed, rewritten]
}

pub fn rewrite_all(world: &mut World) {
    let inputs: Vec<UnitId> = world.units.keys().copied().collect();
    let job = world.rewrite_job(&inputs);
    let done = world.run(Job::Rewrite(job));
    let JobDone::Rewritten { inputs, made, damaged } = done else {
        panic!("good units can be rewritten: {done:?}");
    };
    assert_eq!(damaged, []);
    world.swap(&inputs, &made);
}

fn wanted(
    model: &[Known],
    extent: &Extent,
    from: Offset,
    max_bytes: usize,
    first: FirstBatch,
) -> Vec<Bytes> {
    let mut left = max_bytes;
    let mut batches = Vec::new();
    for known in model.iter().filter(|k| k.last >= from && k.last <= extent.last) {
        let oversize_is_fine = batches.is_empty() && first == FirstBatch::Always;
        if known.bytes.len() > left && !oversize_is_fine {
            break;
        }
        left = left.saturating_sub(known.bytes.len());
        batches.push(known.bytes.clone());
    }
    batches
}

#[test]
fn reads_agree_with_a_list_of_batches() {
    for seed in 0..12 {
        for mut world in worlds(seed) {
            world.check();
            let mut rng = Rng(seed + 77);
            for (key, extents) in world.extents.clone() {
                for _ in 0..60 {
                    let extent = extents[rng.below(extents.len() as u64) as usize];
                    let records = (extent.last.0 - extent.base.0 + 3) as u64;
                    let from = Offset(extent.base.0 + rng.below(records) as i64);
                    let max_bytes = [0, 100, 900, 7_000, usize::MAX][rng.below(5) as usize];
                    let first = [FirstBatch::Always, FirstBatch::IfItFits][rng.below(2) as usize];
                    let read = ExtentRead { first, ..world.read(key, extent, from, max_bytes) };
                    let part = read.run(&mut world.disk).unwrap();
                    let read: Vec<_> = part.batches.into_iter().flat_map(split_placed).collect();
                    let wanted = wanted(&world.model[&key], &extent, from, max_bytes, first);
                    // A run is only read if it fits as a whole, unless it is the first.
                    assert!(read.len() <= wanted.len() && read == wanted[..read.len()]);
                    assert!(read.len() >= wanted.len().min(1), "{from} {max_bytes} {first:?}");
                    let behind = wanted.len() == read.len() && max_bytes == usize::MAX;
                    let all = part.next > extent.last;
                    assert!(all || !behind, "nothing is left out without a reason");
                }
            }
        }
    }
}

#[test]
fn a_read_goes_on_where_the_last_one_ended() {
    let mut world = World::new();
    let big = |name| Write { key: key(0, 0), gap: 0, epoch: 0, bytes: bytes_of(name, 3, 900, 5) };
    let other = |name| Write { key: key(0, 1), ..big(name) };
    let slots = (0..9).map(|n| (n, vec![big(n as u64), other(n as u64), big(n as u64)])).collect();
    let job = world.wal_file(slots);
    world.seal(job);
    let extent = world.extents[&key(0, 0)][0];
    assert_eq!((extent.count, extent.last), (9, Offset(53)));
    let len = world.model[&key(0, 0)][0].bytes.len();
    // Two batches a run: the first run whole, one of the next does not make a run that fits.
    for (max_bytes, batches) in [(0, 1), (2 * len, 2), (3 * len, 2), (4 * len, 4), (1 << 30, 18)] {
        let part = world.read(key(0, 0), extent, Offset(1), max_bytes).run(&mut world.disk);
        let part = part.unwrap();
        let read: usize = part.batches.iter().map(Bytes::len).sum();
        assert_eq!((read / len, part.next), (batches, Offset(3 * batches as i64)), "{max_bytes}");
    }
    let nothing = ExtentRead {
        first: FirstBatch::IfItFits,
        ..world.read(key(0, 0), extent, Offset(4), len - 1)
    };
    let part = nothing.run(&mut world.disk).unwrap();
    assert_eq!((part.batches, part.next), (vec![], Offset(4)));
}

/// What compaction leaves: one extent in which offsets are missing.
fn with_gaps() -> World {
    let mut world = World::new();
    let write = |name, gap| Write {
        key: key(0, 0),
        gap,
        epoch: 0,
        bytes: bytes_of(name, 2, 200, name as i64),
    };
    let slots = (0..150).map(|n| (n, vec![write(n as u64, n % 3)])).collect();
    let job = world.wal_file_of(slots, 1 << 20);
    let made = world.seal(job);
    assert!(made.extents.len() > 90, "a sealed file begins an extent behind each gap");
    world.join_extents(key(0, 0));
    world
}

#[test]
fn what_compaction_left_out_is_passed_over() {
    let mut world = with_gaps();
    for _ in 0..2 {
        world.check();
        let [extent] = world.extents[&key(0, 0)][..] else {
            panic!("gaps inside an extent do not end it");
        };
        let model = world.model[&key(0, 0)].clone();
        for offset in 0..=extent.last.0 {
            let read = world.read(key(0, 0), extent, Offset(offset), 1);
            let part = read.run(&mut world.disk).unwrap();
            let known = model.iter().find(|known| known.last.0 >= offset).unwrap();
            assert_eq!(
                (&part.batches[..], part.next),
                (&[known.bytes.clone()][..], known.last.plus(1))
            );
        }
        rewrite_all(&mut world);
    }
}

#[test]
fn searches_find_the_first_run_that_is_late_enough() {
    for seed in 0..6 {
        for mut world in worlds(seed) {
            for (key, extents) in world.extents.clone() {
                let model = world.model[&key].clone();
                let end = model.last().unwrap().last.0 + 1;
                for timestamp in [0, 1, 300, 500, 900, 999, 1_000] {
                    for from in [0, end / 3, end - 1, end] {
                        let at_least = SearchFor::AtLeast(UnixMs(timestamp));
                        let found = search(&mut world, (key, &extents), Offset(from), at_least);
                        let late = |k: &&Known| k.last.0 >= from && k.timestamp.0 >= timestamp;
                        let wanted = model.iter().find(late);
                        assert_eq!(found.as_ref(), wanted, "{timestamp} from {from}");
                    }
                }
                let extent = extents[extents.len() / 2];
                let of_extent =
                    || model.iter().filter(|k| (extent.base..=extent.last).contains(&k.base));
                let greatest = of_extent().map(|k| k.timestamp).max().unwrap();
                assert_eq!(greatest, extent.max_timestamp);
                let found = search(&mut world, (key, &[extent]), extent.base, SearchFor::Greatest);
                let wanted = of_extent().find(|k| k.timestamp == greatest);
                assert_eq!(found.as_ref(), wanted);
            }
        }
    }
}

/// The batch that a search through extents ends at, as the broker makes it: the run, then its batches, then the next run.
fn search(
    world: &mut World,
    (key, extents): (broker_log::PartitionKey, &[Extent]),
    mut from: Offset,
    what: SearchFor,
) -> Option<Known> {
    let model = world.model[&key].clone();
    for extent in extents {
        while from <= extent.last {
            let unit = world.units[&extent.unit];
            let search = ExtentSearch { key, unit, extent: *extent, from, what };
            let found = search.run(&mut world.disk).unwrap();
            assert!(found.next > from);
            from = found.next;
            let mut batches = split_placed(found.batches)
                .into_iter()
                .map(|batch| model.iter().find(|k| k.bytes == batch).unwrap());
            let hit = batches.find(|known| match what {
                SearchFor::AtLeast(timestamp) => known.timestamp >= timestamp,
                SearchFor::Greatest => known.timestamp == extent.max_timestamp,
            });
            if hit.is_some() {
                return hit.cloned();
            }
        }
    }
    None
}

#[test]
fn of_equally_late_runs_the_first_is_found() {
    let mut world = World::new();
    let write =
        |timestamp| Write { key: key(0, 0), gap: 0, epoch: 0, bytes: bytes_of(1, 1, 9, timestamp) };
    let slots = [3, 8, 8, 5, 8].map(|timestamp| (1, vec![write(timestamp)]));
    let job = world.wal_file(slots.to_vec());
    world.seal(job);
    let extents = world.extents[&key(0, 0)].clone();
    for (what, from, wanted) in [
        (SearchFor::Greatest, 0, 1),
        (SearchFor::Greatest, 2, 2),
        (SearchFor::AtLeast(UnixMs(4)), 0, 1),
        (SearchFor::AtLeast(UnixMs(4)), 3, 3),
    ] {
        let found = search(&mut world, (key(0, 0), &extents), Offset(from), what);
        assert_eq!(found.unwrap().base, Offset(wanted), "{what:?} from {from}");
    }
}
