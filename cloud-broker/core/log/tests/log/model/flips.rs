//! A flipped bit anywhere in any file: the start refuses with its range, or it changes nothing, or the reads that come upon
//! it are told which bytes are damaged and everything else is served. Never is the log shorter without a word.

use std::collections::BTreeMap;

use wire::ids::Incarnation;
use wire::offset::Offset;
use wire::time::UnixMs;

use broker_log::sim_disk::{DiskError, FileName, SimDisk, start};
use broker_log::{
    Damage, FirstBatch, Log, PartitionKey, Piece, ReadFailed, RecoveryError, UnitId, UnitTable,
    recover,
};

use super::book::Part;
use super::crash_points::{script, send};
use super::op::{From, Op};
use super::settings;
use super::world::{World, tiny};
use crate::batches::{Rng, split};

/// One of so many bytes of a file is damaged, but for both ends, where all are.
const STRIDE_DEFAULT: u64 = 211;

/// Bytes at the ends of a file that are all damaged, one by one.
const ENDS: usize = 80;

/// What came of a flipped bit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Some reads were told.
    Told,
    /// Nobody can tell the difference.
    Nothing,
    /// The log was not opened.
    Refused,
}

/// A log with files of every kind, some of them half dead, as a process that ended without a word left it.
fn world() -> World {
    let mut world = World::new(tiny());
    let ops = script();
    world.open().unwrap();
    for op in &ops {
        world.step(*op).unwrap();
    }
    world.die();
    world.open().unwrap();
    // No checkpoint has what comes now.
    for round in 0..4 {
        for part in 0..3 {
            world.step(send(part, [From::Plain, From::Uplink(1)][round % 2], 2_000)).unwrap();
        }
        world.commit().unwrap();
    }
    // The last slot with batches is followed by one that says so.
    world.commit().unwrap();
    for ms in [0, 1_100] {
        world.step(Op::Pass { ms }).unwrap();
    }
    world.commit().unwrap();
    world.check_everything();
    world
}

#[test]
pub(super) fn a_flipped_bit_is_found_or_changes_nothing() {
    let world = world();
    let mut outcomes: BTreeMap<(&str, Outcome), usize> = BTreeMap::new();
    let mut rng = Rng(3);
    let stride = settings::number("CULVERT_LOG_FLIP_STRIDE").unwrap_or(STRIDE_DEFAULT);
    for name in world.disk.names() {
        let len = world.disk.content(name).unwrap().len();
        let ends = (0..len).filter(|at| *at < ENDS || at + ENDS >= len);
        let offset = rng.below(stride) as usize;
        for at in ends.chain((ENDS + offset..len).step_by(stride as usize)) {
            let outcome = flip(&world, &world.book.parts, (name, at), 1 << rng.below(8));
            *outcomes.entry((kind(name), outcome)).or_default() += 1;
        }
    }
    println!("{outcomes:?}");
    for found in [
        ("sealed or open WAL file", Outcome::Told),
        ("sealed or open WAL file", Outcome::Refused),
        ("unit", Outcome::Told),
    ] {
        assert!(outcomes.contains_key(&found), "{found:?} of {outcomes:?}");
    }
    // Another checkpoint, or an older one, is as good.
    assert!(!outcomes.contains_key(&("checkpoint", Outcome::Refused)), "{outcomes:?}");
    assert!(!outcomes.contains_key(&("checkpoint", Outcome::Told)), "{outcomes:?}");
}

/// Where the table of a unit begins.
fn table_of(disk: &SimDisk, name: FileName, len: u64) -> Option<u64> {
    let unit = match name {
        FileName::Unit(unit_no) => UnitId::Unit(unit_no),
        FileName::Wal(file_no) => UnitId::Wal(file_no),
        _ => return None,
    };
    let table = UnitTable::read(&mut disk.clone(), unit, len);
    Some(table.ok()?.meta.entries_off)
}

#[test]
fn a_file_that_cannot_be_read_takes_nothing_else_with_it() {
    let world = world();
    let mut outcomes: BTreeMap<(&str, Outcome), usize> = BTreeMap::new();
    for name in world.disk.names() {
        let mut disk = world.disk.clone();
        disk.set_unreadable(Some(name));
        let started = start(&mut disk, Incarnation([0xee; 16]), &tiny(), UnixMs(1 << 41));
        let outcome = match started {
            Ok(log) => {
                let (served, failed) = read_each(&log, &mut disk, &world.book.parts);
                assert!(served > failed, "{name:?}: {failed} of {served} batches are not served");
                disk.set_unreadable(None);
                assert_eq!(read_each(&log, &mut disk, &world.book.parts).1, 0, "it may pass");
                if failed > 0 { Outcome::Told } else { Outcome::Nothing }
            }
            Err(RecoveryError::Source(DiskError::Io)) => Outcome::Refused,
            Err(error) => panic!("{name:?}: {error}"),
        };
        *outcomes.entry((kind(name), outcome)).or_default() += 1;
    }
    println!("{outcomes:?}");
    assert!(!outcomes.contains_key(&("checkpoint", Outcome::Refused)), "{outcomes:?}");
    assert!(outcomes.contains_key(&("unit", Outcome::Told)), "{outcomes:?}");
    assert!(outcomes.contains_key(&("sealed or open WAL file", Outcome::Told)), "{outcomes:?}");
}

/// Reads every batch by itself; says how many there are, and how many the disk could not read.
fn read_each(
    log: &Log,
    disk: &mut SimDisk,
    parts: &BTreeMap<PartitionKey, Part>,
) -> (usize, usize) {
    let (mut served, mut failed) = (0, 0);
    for (key, part) in parts {
        for sent in part.readable_from(part.start) {
            let from = Offset(sent.base.max(part.start));
            let plan = log.read(*key, from, 1, FirstBatch::Always).unwrap();
            match plan.pieces[0].read(disk) {
                Ok(read) => {
                    let found = split(read.batches.concat().into());
                    assert_eq!(found[0], (Offset(sent.base), sent.produced.clone()), "{key:?}");
                    served += 1;
                }
                Err(ReadFailed::Source(DiskError::Io)) => failed += 1,
                Err(error) => panic!("{key:?} at {}: {error}", sent.base),
            }
        }
    }
    (served, failed)
}

fn flip(
    world: &World,
    parts: &BTreeMap<PartitionKey, Part>,
    (name, at): (FileName, usize),
    bit: u8,
) -> Outcome {
    let mut disk = world.disk.clone();
    disk.damage(name)[at] ^= bit;
    let len = world.disk.content(name).unwrap().len() as u64;
    let at = at as u64;
    let in_table = table_of(&world.disk, name, len).is_some_and(|table| at >= table);
    if let FileName::Checkpoint(id) = name {
        let damaged = recover(&mut disk.clone()).unwrap().damaged;
        assert!(damaged.iter().any(|damaged| damaged.id == id), "{name:?}, byte {at}");
    }
    look(&mut disk, parts, Place { name, at, in_table })
}

/// Flips one bit of any file of a log in which everything is durable.
pub(super) fn flip_any(world: &World, rng: &mut Rng) {
    let mut parts = world.book.parts.clone();
    // What is left of a compacted partition, its own checks know.
    parts.retain(|key, _| !world.book.is_compacted(*key));
    let is_log = |name: &FileName| !matches!(name, FileName::Spare(_) | FileName::Checkpoint(_));
    let names: Vec<FileName> = world.disk.names().into_iter().filter(is_log).collect();
    let name = names[rng.below(names.len() as u64) as usize];
    let len = world.disk.content(name).unwrap().len() as u64;
    flip(world, &parts, (name, rng.below(len) as usize), 1 << rng.below(8));
}

fn kind(name: FileName) -> &'static str {
    match name {
        FileName::Checkpoint(_) | FileName::CheckpointDraft(_) => "checkpoint",
        FileName::Spare(_) => "spare",
        FileName::Unit(_) | FileName::UnitDraft(_) => "unit",
        FileName::Wal(_) => "sealed or open WAL file",
    }
}

fn look(disk: &mut SimDisk, parts: &BTreeMap<PartitionKey, Part>, place: Place) -> Outcome {
    let log = match start(disk, Incarnation([0xee; 16]), &tiny(), UnixMs(1 << 41)) {
        Ok(log) => log,
        Err(RecoveryError::Corrupt(corruption)) => {
            assert_eq!(FileName::Wal(corruption.file_no), place.name, "{corruption}");
            let range = corruption.from..corruption.to;
            assert!(range.contains(&place.at), "{corruption}, {place:?}");
            return Outcome::Refused;
        }
        Err(error) => {
            assert!(matches!(place.name, FileName::Unit(_) | FileName::Wal(_)), "{error}");
            return Outcome::Refused;
        }
    };
    let mut told = 0;
    for (key, part) in parts {
        told += read_partition(&log, disk, (*key, part), place);
        told += look_up(&log, disk, (*key, part), place);
    }
    if told > 0 { Outcome::Told } else { Outcome::Nothing }
}

/// Reads all of a partition and goes on behind what is damaged; says how often that was.
fn read_partition(
    log: &Log,
    disk: &mut SimDisk,
    (key, part): (PartitionKey, &Part),
    place: Place,
) -> usize {
    let Some(offsets) = log.offsets(key) else {
        assert_eq!(part.acked_end(), 0, "{key:?} is gone, {place:?}");
        return 0;
    };
    assert_eq!(offsets.high_watermark.0, part.acked_end(), "{key:?} ends elsewhere, {place:?}");
    assert!(offsets.log_start.0 <= part.start, "{key:?} begins too late, {place:?}");
    let mut told = 0;
    // What an older checkpoint still has of what was deleted may be served; what was not deleted must be.
    let mut next = part.start;
    while next < part.acked_end() {
        let plan = log.read(key, Offset(next), 20_000, FirstBatch::Always).unwrap();
        let before = next;
        for piece in &plan.pieces {
            match read(piece, disk) {
                Ok((batches, is_whole)) => {
                    for (base, produced) in batches {
                        let sent = part.readable_from(next).next().unwrap();
                        assert_eq!(base, sent.base, "{key:?} at {next}, {place:?}");
                        assert_eq!(produced, sent.produced, "{key:?} at {next}, {place:?}");
                        next = sent.last + 1;
                    }
                    if !is_whole {
                        break;
                    }
                }
                Err(damage) => {
                    hold_against(&damage, key, place);
                    told += 1;
                    assert!(damage.last.0 >= next, "{damage} is ahead of {next}");
                    next = damage.last.0 + 1;
                    break;
                }
            }
        }
        assert!(next > before, "{key:?}: nothing is read at {next}, {place:?}");
    }
    told
}

/// Looks for several times; what is found is right, or somebody was told.
fn look_up(
    log: &Log,
    disk: &mut SimDisk,
    (key, part): (PartitionKey, &Part),
    place: Place,
) -> usize {
    let mut told = 0;
    for timestamp in [0, 499, 500, 501] {
        let mut from = Offset(part.start);
        let mut found = None;
        let mut is_told = false;
        while let Some(candidate) = log.candidate_at_time(key, UnixMs(timestamp), from) {
            match candidate.piece.read(disk) {
                Ok(read) => {
                    let bases = read.batches.into_iter().flat_map(split).map(|(base, _)| base.0);
                    found = bases.filter(|base| is_late(part, *base, timestamp)).min();
                    if found.is_some() {
                        break;
                    }
                    from = read.next.unwrap_or(candidate.next);
                }
                Err(ReadFailed::Damaged(damage)) => {
                    hold_against(&damage, key, place);
                    is_told = true;
                    break;
                }
                Err(ReadFailed::Source(error)) => panic!("{key:?}, {place:?}: {error}"),
            }
        }
        let expected = part.readable_from(part.start).find(|sent| sent.timestamp >= timestamp);
        if is_told {
            told += 1;
        } else {
            assert_eq!(found, expected.map(|sent| sent.base), "{key:?}, {place:?}");
        }
    }
    told
}

fn is_late(part: &Part, base: i64, timestamp: i64) -> bool {
    part.readable_from(base).next().is_some_and(|sent| sent.timestamp >= timestamp)
}

type Batches = Vec<(i64, bytes::Bytes)>;

fn read(piece: &Piece, disk: &mut SimDisk) -> Result<(Batches, bool), Damage> {
    match piece.read(disk) {
        Ok(read) => {
            let batches = read.batches.into_iter().flat_map(split);
            Ok((batches.map(|(base, bytes)| (base.0, bytes)).collect(), read.is_whole))
        }
        Err(ReadFailed::Damaged(damage)) => Err(damage),
        Err(ReadFailed::Source(error)) => panic!("{piece:?}: {error}"),
    }
}

/// Where a bit was flipped.
#[derive(Debug, Clone, Copy)]
struct Place {
    name: FileName,
    at: u64,
    /// Whether in the table of a unit.
    in_table: bool,
}

/// The damage that was told is the damage that was done. Where the table and the batches contradict each other, the batches
/// are named.
fn hold_against(damage: &Damage, key: PartitionKey, place: Place) {
    let unit = match damage.unit {
        UnitId::Unit(unit_no) => FileName::Unit(unit_no),
        UnitId::Wal(file_no) => FileName::Wal(file_no),
    };
    assert_eq!((unit, damage.key), (place.name, key), "{damage}, {place:?}");
    let is_in = (damage.from..damage.to).contains(&place.at);
    assert!(is_in || place.in_table, "{damage}, {place:?}");
}
