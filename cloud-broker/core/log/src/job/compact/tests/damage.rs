//! Bytes that are not what was written, and batches that nobody should have written.

use wire::record_batch::{HEADER_BYTES, RecordBatchHeader, crc32c};
use wire::time::UnixMs;

use super::super::{JobDone, Lane, run_within};
use super::world::{KEY, SECOND, Unhurried, World};
use crate::compaction::{COMPACTED_BATCH_RECORDS_MAX, KeyedRecord, RecordRewriter, Unreadable};
use crate::plain_records::PlainRecords;
use crate::sim_disk::FileName;

/// Offsets of the older and the newer record of keys that two units hold.
const PAIRS: [(i64, i64); 3] = [(0, 4), (2, 5), (3, 6)];

fn world() -> World {
    let mut world = World::new();
    world.append(&[
        &[(Some("a"), Some("1")), (Some("x"), Some("1"))],
        &[(Some("b"), Some("1"))],
        &[(Some("c"), Some("1"))],
    ]);
    world.append(&[&[(Some("a"), Some("2"))], &[(Some("b"), None)], &[(Some("c"), Some("2"))]]);
    world.append(&[&[(Some("d"), Some("1"))]]);
    world
}

fn flip(world: &mut World, extent: usize, at: usize) {
    let name = FileName::from(world.extents[extent].0.unit);
    world.disk.damage(name)[at] ^= 0x10;
}

#[test]
fn every_flipped_byte_of_a_batch_is_reported_and_costs_nothing_but_its_batches() {
    let (mut of_batch, mut of_run) = (0, 0);
    for at in 0..world().extents[1].1.entries_off as usize {
        let mut world = world();
        flip(&mut world, 1, at);
        let unit = world.extents[1].0.unit;
        let before = world.disk.content(FileName::from(unit)).unwrap();
        let outcome = world.compact();
        let [damage] = outcome.damaged[..] else {
            panic!("byte {at}: {:?}", outcome.damaged);
        };
        assert_eq!((damage.key, damage.unit), (KEY, unit));
        assert!((damage.from..damage.to).contains(&(at as u64)), "byte {at}: {damage}");
        // What was found was kept, byte for byte.
        let found = &before[damage.from as usize..damage.to as usize];
        assert!(world.holds(found), "byte {at}");

        let offsets = world.readable();
        assert!(offsets.contains(&1) && offsets.contains(&7), "byte {at}: {offsets:?}");
        for (older, newer) in PAIRS {
            let is_damaged = (damage.base.0..=damage.last.0).contains(&newer);
            let wanted = if is_damaged { older } else { newer };
            assert!(offsets.contains(&wanted), "byte {at}: {wanted} of {offsets:?}");
        }
        if damage.base == damage.last { of_batch += 1 } else { of_run += 1 }
    }
    assert!(of_batch > 100 && of_run > 20, "{of_batch}, {of_run}");
}

#[test]
fn no_tombstone_goes_that_may_have_a_value_behind_damage() {
    // In the CRC's range, and outside of it.
    for at in [HEADER_BYTES + 3, 5] {
        let mut world = World::new();
        world.append(&[&[(Some("a"), Some("1"))]]);
        world.append(&[&[(Some("a"), None)], &[(Some("b"), Some("1"))]]);
        world.append(&[&[(Some("b"), Some("2"))]]);
        flip(&mut world, 0, at);
        world.compact();
        for _ in 0..3 {
            world.now += 1_000 * SECOND;
            let outcome = world.compact();
            assert_eq!((outcome.damaged.len(), outcome.next_horizon), (1, None));
            assert_eq!(world.readable().into_iter().collect::<Vec<_>>(), [1, 3]);
        }
    }
}

#[test]
fn a_table_that_is_damaged_ends_the_pass() {
    let (entries, end) = {
        let unit = world().extents[1].1;
        (unit.entries_off as usize, unit.len as usize)
    };
    for at in entries..end {
        let mut world = world();
        flip(&mut world, 1, at);
        let names = world.disk.names();
        let job = world.job();
        let done = run_within(world.limits, &job, &mut world.disk, &mut Unhurried, &PlainRecords);
        let JobDone::Failed { lane, error, .. } = done else {
            panic!("byte {at}: {done:?}");
        };
        assert_eq!(lane, Lane::Compaction);
        assert!(error.contains("unit 2, bytes") && error.contains("offsets 4 to 6"), "{error}");
        assert_eq!(world.disk.names(), names);
    }
}

/// What makes a batch say something else, with its name.
type Forge<'a> = (&'a str, &'a dyn Fn(&mut [u8]));

/// Makes a batch say something else, with a CRC that is right.
fn forged(mut batch: Vec<u8>, forge: impl Fn(&mut [u8])) -> Vec<u8> {
    forge(&mut batch);
    let crc = crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    RecordBatchHeader::parse(&batch).unwrap();
    batch
}

#[test]
fn batches_that_are_odd_stay_and_supersede_nothing() {
    let first_delta = HEADER_BYTES + 3;
    // A record begins with its length, attributes and time, of one byte each; the first length is zigzag.
    let second_delta = |batch: &[u8]| HEADER_BYTES + 1 + usize::from(batch[HEADER_BYTES] >> 1) + 3;
    let forges: [Forge<'_>; 6] = [
        ("of a transaction", &|batch| batch[22] |= RecordBatchHeader::TRANSACTIONAL as u8),
        ("a marker", &|batch| batch[22] |= RecordBatchHeader::CONTROL as u8),
        ("two records at one offset", &|batch| batch[first_delta] = 2),
        ("a record behind the last", &|batch| batch[second_delta(batch)] = 4),
        ("a record before the first", &|batch| batch[first_delta] = 1),
        ("a record cut short", &|batch| batch[HEADER_BYTES] += 2),
    ];
    for (what, forge) in forges {
        let mut world = World::new();
        world.append(&[&[(Some("a"), Some("1")), (Some("b"), Some("1"))]]);
        let batch = world.batch(&[(Some("a"), Some("2")), (Some("b"), Some("2"))]);
        let batch = forged(batch, forge);
        world.append_built(std::slice::from_ref(&batch));
        world.append(&[&[(Some("c"), Some("1"))], &[(Some("c"), Some("2"))]]);
        let outcome = world.compact();
        assert_eq!((outcome.cleaned, outcome.damaged.len()), (6, 0), "{what}");
        assert!(world.holds(&batch), "{what}");
        let (older, odd) = ((0, 1, 2), (2, 3, 2));
        assert_eq!(world.batches(), [older, odd, (5, 5, 1)], "{what}");

        // What is newer supersedes what is older, and not what nobody can read.
        world.append(&[&[(Some("a"), Some("3")), (Some("b"), Some("3")), (Some("c"), Some("3"))]]);
        world.compact();
        assert!(world.holds(&batch), "{what}");
        assert_eq!(world.batches(), [odd, (6, 8, 3)], "{what}");
        world.log_start = 4;
        world.compact();
        assert_eq!(world.batches(), [(6, 8, 3)], "{what}");
    }
}

#[test]
fn an_odd_batch_goes_with_what_is_deleted() {
    let mut world = World::new();
    let odd = world.batch(&[(Some("a"), Some("1")), (Some("b"), Some("1"))]);
    let odd = forged(odd, |batch| batch[HEADER_BYTES] += 2);
    let next = world.batch(&[(Some("c"), Some("1"))]);
    world.append_built(&[odd, next]);
    world.log_start = 2;
    world.compact();
    assert_eq!(world.batches(), [(2, 2, 1)]);
}

#[test]
fn no_tombstone_goes_that_may_have_a_value_in_a_transaction() {
    let mut world = World::new();
    world.policy.delete_retention_ms = 0;
    let batch = world.batch(&[(Some("a"), Some("1"))]);
    let batch = forged(batch, |batch| batch[22] |= RecordBatchHeader::TRANSACTIONAL as u8);
    world.append_built(&[batch]);
    world.append(&[&[(Some("a"), None)], &[(Some("b"), Some("1"))]]);
    for _ in 0..3 {
        assert_eq!(world.compact().next_horizon, None);
        assert_eq!(world.offsets(), [0, 1, 2]);
    }
}

#[test]
fn more_records_than_are_remembered_stay() {
    /// Finds as many records of one key as the batch says.
    struct Many;
    impl RecordRewriter for Many {
        fn walk(
            &self,
            batch: &[u8],
            show: &mut dyn FnMut(KeyedRecord<'_>),
        ) -> Result<(), Unreadable> {
            let header = RecordBatchHeader::parse(batch).unwrap();
            for delta in 0..header.record_count {
                let offset = header.base_offset.plus(delta);
                show(KeyedRecord { offset, key: Some(b"a"), is_tombstone: false });
            }
            Ok(())
        }

        fn rewrite(&self, _: &[u8], _: &[bool], _: Option<UnixMs>) -> Result<Vec<u8>, Unreadable> {
            Err(Unreadable)
        }
    }
    for (count, left) in [(1_000, 1), (COMPACTED_BATCH_RECORDS_MAX + 1, 2)] {
        let mut world = World::new();
        world.append(&[&[(Some("a"), Some("1"))]]);
        let batch = world.batch(&[(Some("a"), Some("2"))]);
        world.append_built(&[forged(batch, |batch| {
            batch[23..27].copy_from_slice(&(count - 1).to_be_bytes());
            batch[57..61].copy_from_slice(&count.to_be_bytes());
        })]);
        world.compact_with(&Many);
        assert_eq!(world.batches().len(), left);
    }
}

#[test]
fn a_batch_that_would_change_its_place_stays() {
    struct Moves;
    impl RecordRewriter for Moves {
        fn walk(
            &self,
            batch: &[u8],
            show: &mut dyn FnMut(KeyedRecord<'_>),
        ) -> Result<(), Unreadable> {
            PlainRecords.walk(batch, show)
        }

        fn rewrite(
            &self,
            batch: &[u8],
            keep: &[bool],
            horizon: Option<UnixMs>,
        ) -> Result<Vec<u8>, Unreadable> {
            let mut moved = PlainRecords.rewrite(batch, keep, horizon)?;
            moved[7] += 1;
            Ok(moved)
        }
    }
    let mut world = World::new();
    world.append(&[&[(Some("a"), Some("1")), (Some("b"), Some("1"))], &[(Some("a"), Some("2"))]]);
    world.compact_with(&Moves);
    assert_eq!(world.batches(), [(0, 1, 2), (2, 2, 1)]);
}
