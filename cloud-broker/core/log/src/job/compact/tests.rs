mod damage;
mod model;
mod world;

use std::cell::Cell;

use wire::time::UnixMs;

use super::*;
use crate::compaction::{KeyedRecord, Unreadable};
use crate::plain_records::PlainRecords;
use crate::sim_disk::{SimDisk, Trouble};
use world::{SECOND, Unhurried, World};

#[test]
fn of_each_key_the_last_record_stays() {
    let mut world = World::new();
    world.append(&[
        &[(Some("a"), Some("1")), (Some("b"), Some("1")), (Some("a"), Some("2"))],
        &[(Some("c"), Some("1"))],
    ]);
    world.append_stamped(&[
        (Some("c"), Some("2")),
        (None, Some("keyless")),
        (Some("d"), Some("1")),
    ]);
    world.append(&[&[(Some("b"), Some("2"))]]);
    let outcome = world.compact();
    assert_eq!((outcome.cleaned, outcome.next_horizon), (8, None));
    assert_eq!(world.offsets(), [2, 4, 6, 7]);
    let found = world.read();
    for (said, horizon) in &found {
        assert_eq!((said, *horizon), (&world.appended[said.offset as usize], None));
    }
    // From the middle of a gap, a reader goes on with what follows.
    let from_gap: Vec<_> = world.read_from(5).unwrap();
    assert_eq!(from_gap, found[2..]);
    let extent = world.extents[0].0;
    assert_eq!((extent.base.0, extent.last.0), (0, 7));
}

#[test]
fn a_tombstone_stays_through_its_delete_horizon() {
    let mut world = World::new();
    world.append(&[&[(Some("a"), Some("1"))], &[(Some("a"), None), (Some("b"), Some("1"))]]);
    world.append(&[&[(Some("c"), Some("1"))]]);
    let horizon = UnixMs(world.now + 100 * SECOND);
    assert_eq!(world.compact().next_horizon, Some(horizon));
    assert_eq!(world.offsets(), [1, 2, 3]);
    assert_eq!(world.read()[0].1, Some(horizon));

    // A later pass neither moves it nor takes the tombstone a moment too early.
    world.now = horizon.0 - 1;
    assert_eq!(world.compact().next_horizon, Some(horizon));
    assert_eq!(world.offsets(), [1, 2, 3]);
    world.now = horizon.0;
    assert_eq!(world.compact().next_horizon, None);
    assert_eq!(world.offsets(), [2, 3]);
}

#[test]
fn the_last_batch_is_never_emptied() {
    let mut world = World::new();
    world.append(&[&[(Some("a"), Some("1"))]]);
    world.append(&[&[(None, Some("x")), (None, Some("y"))]]);
    world.compact();
    assert_eq!(world.offsets(), [0, 2], "a keyless record that is the last");

    world.append(&[&[(Some("a"), None)]]);
    world.policy.delete_retention_ms = 0;
    world.compact();
    assert_eq!(world.offsets(), [3]);
    // Its horizon has passed, but it is the last; nobody waits for it.
    assert_eq!(world.compact().next_horizon, None);
    assert_eq!(world.offsets(), [3]);

    world.append(&[&[(Some("b"), Some("1"))]]);
    world.compact();
    assert_eq!(world.offsets(), [4]);
}

#[test]
fn what_is_younger_than_the_lag_is_left_alone() {
    let mut world = World::new();
    world.policy.min_lag_ms = 60 * SECOND as u64;
    world.append(&[&[(Some("a"), Some("1"))]]);
    world.now += 30 * SECOND;
    world.append(&[&[(Some("a"), Some("2")), (Some("a"), Some("3"))]]);
    assert_eq!(world.compact().cleaned, 0);
    world.now += 30 * SECOND;
    assert_eq!(world.compact().cleaned, 1);
    assert_eq!(world.offsets(), [0, 1, 2]);
    world.now += 30 * SECOND;
    assert_eq!(world.compact().cleaned, 3);
    assert_eq!(world.offsets(), [2]);
    // A clock that was set back makes nothing older.
    world.append(&[&[(Some("a"), Some("4"))]]);
    world.now -= 500 * SECOND;
    assert_eq!(world.compact().cleaned, 3);
}

#[test]
fn a_full_map_ends_the_pass_and_the_next_one_goes_on() {
    let mut world = World::new();
    world.limits.map_bytes = 24 * 4; // room for three keys
    world.append(&[&[(Some("a"), Some("1")), (Some("b"), Some("1")), (Some("a"), Some("2"))]]);
    let five = ["c", "d", "a", "b", "e"].map(|key| (Some(key), Some("2")));
    world.append(&[&five, &[(Some("c"), None), (Some("d"), Some("3"))]]);
    assert_eq!(world.compact().cleaned, 3, "the batch of five comes another time");
    assert_eq!(world.offsets(), (1..10).collect::<Vec<_>>());
    // No map would take the five: the first three count as seen, the others stay.
    let outcome = world.compact();
    assert_eq!((outcome.cleaned, outcome.next_horizon), (6, None));
    assert_eq!(world.offsets(), (1..10).filter(|offset| *offset != 2).collect::<Vec<_>>());
    // One of the next batch is in the map, so it supersedes, although the batch comes another time.
    assert_eq!(world.compact().cleaned, 8);
    assert_eq!(world.offsets(), [4, 5, 6, 7, 8, 9]);
    let outcome = world.compact();
    assert_eq!(outcome.cleaned, 10);
    assert_eq!(world.offsets(), [5, 6, 7, 8, 9]);
    assert_eq!(outcome.next_horizon, Some(UnixMs(world.now + 100 * SECOND)));
}

#[test]
fn tombstones_of_a_batch_that_no_map_takes() {
    let mut world = World::new();
    world.limits.map_bytes = 0; // room for one key
    world.policy.delete_retention_ms = 0;
    world.append(&[&[(Some("a"), Some("1"))], &[(Some("b"), Some("1"))]]);
    world.append(&[&[(Some("a"), None), (Some("b"), None)], &[(Some("c"), Some("1"))]]);
    for cleaned in [1, 2, 3, 4] {
        assert_eq!(world.compact().cleaned, cleaned);
    }
    // Of one batch, they were surveyed by two passes: nobody can say any more that nothing stayed of the first.
    for _ in 0..2 {
        assert_eq!(world.compact().next_horizon, None);
        assert_eq!(world.offsets(), [2, 3, 4]);
    }

    let mut world = World::new();
    world.policy.delete_retention_ms = 0;
    world.append(&[&[(Some("a"), Some("1"))], &[(Some("b"), Some("1"))]]);
    world.append(&[&[(Some("x"), Some("1")), (Some("a"), None), (Some("b"), None)]]);
    world.append(&[&[(Some("c"), Some("1"))]]);
    world.compact();
    // With room for two, the first pass would survey one of them: it sets no horizon that the other would share.
    world.cleaned = 2;
    world.limits.map_bytes = 24 * 3;
    let outcome = world.compact();
    assert_eq!((outcome.cleaned, outcome.next_horizon), (4, None));
}

#[test]
fn deleted_records_neither_stay_nor_come_back() {
    let mut world = World::new();
    world.append(&[&[(Some("a"), Some("1")), (Some("b"), Some("1")), (Some("c"), Some("1"))]]);
    world.append(&[&[(Some("d"), Some("1"))], &[(Some("a"), Some("2"))]]);
    world.log_start = 2;
    world.compact();
    assert_eq!(world.read_from(0).unwrap().len(), 3);
    assert_eq!(world.offsets(), [2, 3, 4]);
    world.log_start = 4;
    world.compact();
    assert_eq!((world.offsets(), world.extents.len()), (vec![4], 1));
    assert_eq!(world.extents[0].0.base.0, 4);
}

#[test]
fn units_and_extents_are_bounded() {
    let mut world = World::new();
    let key = |i: usize| format!("key {i}");
    for i in 0..40 {
        world.append(&[&[(Some(&key(i)), Some("some value"))]]);
        world.now += 3600 * SECOND;
    }
    world.limits.unit_bytes = 1_000;
    let outcome = world.compact();
    assert!(outcome.made.units.len() >= 3, "{:?}", outcome.made.units.len());
    assert!(outcome.made.units.iter().all(|unit| unit.entries_off < 1_200));
    let first_append = world.extents[0].0.max_append_ms.0;
    // Extents go on being those of six hours each, pass after pass.
    for _ in 0..2 {
        let appended: Vec<i64> =
            world.extents.iter().map(|(extent, _)| extent.max_append_ms.0).collect();
        assert!(appended.is_sorted() && appended[0] == first_append);
        let spans = world.extents.iter().map(|(extent, _)| extent.last.0 - extent.base.0 + 1);
        assert!(spans.clone().all(|records| records <= 6), "{:?}", spans.collect::<Vec<_>>());
        assert!(world.extents.len() <= 40 / 6 + 2 + outcome.made.units.len());
        world.compact();
    }
    assert_eq!(world.offsets(), (0..40).collect::<Vec<_>>());
}

/// Retention goes by the latest append of an extent: what is compacted and deleted has to grow old all the same.
#[test]
fn passes_that_come_often_do_not_keep_an_extent_young() {
    let mut world = World::new();
    for i in 0..30 {
        world.append(&[&[(Some(&format!("key {i}")), Some("some value"))]]);
        world.compact();
        world.now += 3600 * SECOND;
    }
    let spans: Vec<_> =
        world.extents.iter().map(|(extent, _)| extent.last.0 - extent.base.0 + 1).collect();
    assert!(spans.iter().all(|records| *records <= 6), "{spans:?}");
    assert!(spans.len() <= 30 / 6 + 1, "{spans:?}");
    // What never grows too old needs no more entries in the index than it has units.
    world.ages = Ages::Forgotten;
    world.compact();
    assert_eq!(world.extents.len(), 1);
    assert_eq!(world.offsets().len(), 30);
}

#[test]
fn a_pass_that_ends_early_leaves_nothing_behind() {
    struct Impatient(Cell<usize>);
    impl Pace for Impatient {
        fn wrote(&mut self, _bytes: usize) -> Proceed {
            let left = self.0.get();
            self.0.set(left.saturating_sub(1));
            if left == 0 { Proceed::Stop } else { Proceed::Go }
        }
    }
    let mut world = World::new();
    for i in 0..30 {
        world.append(&[&[(Some(&format!("key {}", i % 20)), Some("some value"))]]);
    }
    world.limits.unit_bytes = 500;
    world.limits.read_step_bytes = 0;
    let units = |disk: &mut SimDisk| disk.names();
    let before = units(&mut world.disk);
    let job = world.job();
    let mut ends = 0;
    for calls in 0..200 {
        let mut pace = Impatient(Cell::new(calls));
        let done = run_within(world.limits, &job, &mut world.disk, &mut pace, &PlainRecords);
        if let JobDone::Failed { lane, error, .. } = done {
            assert_eq!((lane, error.as_str()), (Lane::Compaction, "topic 3, partition 1: stopped"));
            assert_eq!(units(&mut world.disk), before, "stopped at call {calls}");
            ends += 1;
        } else {
            break;
        }
    }
    assert!(ends > 30, "{ends}");
    let mut disk = world.disk.clone();
    let mut failures = 0;
    for calls in 0..200 {
        disk.fail_after(calls, Trouble::Io);
        let done = run_within(world.limits, &job, &mut disk, &mut Unhurried, &PlainRecords);
        disk.heal();
        let JobDone::Failed { .. } = done else {
            break;
        };
        failures += 1;
    }
    assert!(failures > 10, "{failures}");
}

#[test]
fn a_pace_hears_of_all_that_is_read_and_not_of_each_run() {
    #[derive(Default)]
    struct Counts {
        read: usize,
        reads: usize,
    }
    impl Pace for Counts {
        fn wrote(&mut self, _bytes: usize) -> Proceed {
            Proceed::Go
        }

        fn read(&mut self, bytes: usize) -> Proceed {
            self.read += bytes;
            self.reads += 1;
            Proceed::Go
        }
    }
    let mut world = World::new();
    for i in 0..100 {
        world.append(&[&[(Some(&format!("key {i}")), Some(&"value".repeat(20)))]]);
    }
    world.limits.read_step_bytes = 2_000;
    let all: u64 = world.extents.iter().map(|(extent, _)| extent.bytes).sum();
    let mut pace = Counts::default();
    run_within(world.limits, &world.job(), &mut world.disk, &mut pace, &PlainRecords);
    // It is read twice: once for the keys, once to be copied.
    let all = 2 * all as usize;
    assert!((all - 2_000..=all).contains(&pace.read), "{} of {all}", pace.read);
    assert!((all / 2_300..=all / 2_000).contains(&pace.reads), "{} times", pace.reads);
}

#[test]
fn batches_that_cannot_be_read_stay_and_supersede_nothing() {
    /// Finds that the first `walks` batches can be read, and no other; or that the partition's first cannot be rewritten.
    struct Unable {
        walks: Cell<usize>,
        rewrites_first: bool,
    }
    impl RecordRewriter for Unable {
        fn walk(
            &self,
            batch: &[u8],
            show: &mut dyn FnMut(KeyedRecord<'_>),
        ) -> Result<(), Unreadable> {
            PlainRecords.walk(batch, show)?;
            let left = self.walks.get().checked_sub(1).ok_or(Unreadable)?;
            self.walks.set(left);
            Ok(())
        }

        fn rewrite(
            &self,
            batch: &[u8],
            keep: &[bool],
            horizon: Option<UnixMs>,
        ) -> Result<Vec<u8>, Unreadable> {
            let is_first = batch.starts_with(&[0; 8]);
            if is_first && !self.rewrites_first {
                return Err(Unreadable);
            }
            PlainRecords.rewrite(batch, keep, horizon)
        }
    }
    let appended = |world: &mut World| {
        world.append(&[
            &[(Some("a"), Some("1"))],
            &[(Some("a"), Some("2")), (Some("b"), Some("1"))],
            &[(Some("b"), None)],
            &[(Some("c"), Some("1"))],
        ]);
    };
    let mut world = World::new();
    appended(&mut world);
    // The survey reads all four batches; of the copy, none can be read: nothing goes.
    world.compact_with(&Unable { walks: Cell::new(4), rewrites_first: true });
    assert_eq!(world.offsets(), [0, 1, 2, 3, 4]);
    // Nothing that could not be read has superseded anything.
    let mut world = World::new();
    appended(&mut world);
    world.compact_with(&Unable { walks: Cell::new(0), rewrites_first: true });
    assert_eq!(world.offsets(), [0, 1, 2, 3, 4]);

    // A value that cannot be taken out of its batch keeps the tombstone behind it, although its horizon is over.
    let mut world = World::new();
    world.append(&[&[(Some("b"), Some("1")), (Some("x"), Some("1"))], &[(Some("b"), None)]]);
    world.append(&[&[(Some("c"), Some("1"))]]);
    world.policy.delete_retention_ms = 0;
    let unable = Unable { walks: Cell::new(usize::MAX), rewrites_first: false };
    for _ in 0..3 {
        world.compact_with(&unable);
        assert_eq!(world.offsets(), [0, 1, 2, 3]);
    }
    // Also when it could be taken out after all: what supersedes it was surveyed before.
    for _ in 0..3 {
        assert_eq!(world.compact().next_horizon, None);
        assert_eq!(world.offsets(), [0, 1, 2, 3]);
    }
    world.append(&[&[(Some("b"), None)], &[(Some("c"), Some("2"))]]);
    assert_eq!(world.compact().next_horizon, Some(UnixMs(world.now)));
    assert_eq!(world.offsets(), [1, 4, 5]);
    assert_eq!(world.compact().next_horizon, None);
    assert_eq!(world.offsets(), [1, 5]);
}

/// The survey finds a batch damaged that the copy, a moment later, finds intact.
#[test]
fn a_tombstone_that_was_not_surveyed_gets_no_horizon() {
    struct Hiccups(Cell<usize>);
    impl RecordRewriter for Hiccups {
        fn walk(
            &self,
            batch: &[u8],
            show: &mut dyn FnMut(KeyedRecord<'_>),
        ) -> Result<(), Unreadable> {
            self.0.set(self.0.get() + 1);
            if self.0.get() == 2 { Err(Unreadable) } else { PlainRecords.walk(batch, show) }
        }

        fn rewrite(
            &self,
            batch: &[u8],
            keep: &[bool],
            horizon: Option<UnixMs>,
        ) -> Result<Vec<u8>, Unreadable> {
            PlainRecords.rewrite(batch, keep, horizon)
        }
    }
    let mut world = World::new();
    world.policy.delete_retention_ms = 0;
    world.append(&[&[(Some("a"), Some("1"))]]);
    world.append(&[&[(Some("a"), None)], &[(Some("b"), Some("1"))]]);
    assert_eq!(world.compact_with(&Hiccups(Cell::new(0))).next_horizon, None);
    for _ in 0..3 {
        world.compact();
        assert_eq!(world.offsets(), [0, 1, 2], "the value must not come back");
    }
}
