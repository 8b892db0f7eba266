//! A disk that is full at any point of a workload: appends are turned away, nothing else breaks, and it takes appends again
//! once there is space.

use super::op::{From, Op};
use super::world::{World, tiny};

/// Bytes in which a log can live: the open file, those that are ready, the floor, and two checkpoints.
const LEAST: u64 = 7 * (64 << 10);

/// Bytes by which one budget differs from the next.
const STEP: u64 = 23 << 10;

fn fill(world: &mut World) {
    let job = Op::RunJob { job: 0, pace: u64::MAX, fails: None };
    for round in 0..40_u64 {
        for part in 0..4 {
            let from = [From::Plain, From::Idempotent(0), From::Uplink(1)];
            let from = from[((round + part) % 3) as usize];
            let bytes = [700, 9_000, 3_000][(round % 3) as usize];
            let send = Op::Send { part, from, records: 2, bytes, timestamp: 500 };
            world.step(send).unwrap();
        }
        world.commit().unwrap();
        for op in [Op::TakeJob, job, Op::EndJob { job: 0 }] {
            world.step(op).unwrap();
        }
        world.step(Op::Pass { ms: 700 }).unwrap();
    }
    world.commit().unwrap();
}

/// A world whose disk takes no more than so much from now on.
fn limited(bytes_max: u64) -> World {
    let mut world = World::new(tiny());
    world.set_space(Some(bytes_max)).unwrap();
    world.open().unwrap();
    world
}

fn takes_appends(world: &mut World) -> bool {
    let before = world.turned_away;
    for part in 0..4 {
        let send = Op::Send { part, from: From::Plain, records: 1, bytes: 3_000, timestamp: 1 };
        world.step(send).unwrap();
    }
    world.commit().unwrap();
    world.turned_away == before
}

#[test]
pub(super) fn a_full_disk_turns_appends_away_and_serves_what_it_has() {
    let mut whole = limited(u64::MAX);
    fill(&mut whole);
    assert_eq!(whole.turned_away, 0);
    let most = whole.disk.used();
    let mut turned_away = 0;
    for bytes_max in (LEAST..most + STEP).step_by(STEP as usize) {
        let mut world = limited(bytes_max);
        fill(&mut world);
        world.check_everything();
        assert!(world.disk.used() <= bytes_max);
        turned_away += world.turned_away;
        if world.turned_away > 0 {
            // Somebody deletes records.
            for part in 0..4 {
                world.step(Op::Delete { part, at: 1_000 }).unwrap();
            }
            world.settle().unwrap();
            assert!(takes_appends(&mut world), "{bytes_max}: there is space again");
        }
        world.check_everything();
    }
    assert!(turned_away > 100, "{turned_away} appends were turned away");
}

#[test]
fn a_full_disk_takes_appends_again_when_it_has_grown() {
    let mut world = limited(LEAST);
    fill(&mut world);
    assert!(!takes_appends(&mut world));
    world.set_space(None).unwrap();
    assert!(takes_appends(&mut world));
    world.check_everything();
}

#[test]
fn a_process_can_begin_on_a_full_disk() {
    let mut world = limited(LEAST);
    fill(&mut world);
    for _ in 0..3 {
        world.die();
        world.open().unwrap();
        world.check_everything();
    }
}

#[test]
pub(super) fn what_somebody_reads_stays_until_it_is_read() {
    let mut world = World::new(tiny());
    world.open().unwrap();
    fill(&mut world);
    for round in 0..4 {
        // From units, sealed files and open ones, whatever there is.
        for part in 0..4 {
            for at in [0, 300, 600, 900] {
                world.step(Op::Hold { part, at, max_bytes: 30_000 }).unwrap();
            }
        }
        let at = [0, 500, 900, 1_000][round];
        for part in 0..4 {
            world.step(Op::Delete { part, at }).unwrap();
        }
        world.settle().unwrap();
        for _ in 0..16 {
            world.step(Op::ReadHeld).unwrap();
        }
        world.settle().unwrap();
        fill(&mut world);
    }
}

#[test]
pub(super) fn what_is_deleted_gives_its_space_back() {
    let mut world = World::new(tiny());
    world.open().unwrap();
    for _ in 0..3 {
        fill(&mut world);
        world.settle().unwrap();
        assert!(world.disk.used() > 10 * (64 << 10));
        for part in 0..4 {
            world.step(Op::Delete { part, at: 1_000 }).unwrap();
        }
        world.settle().unwrap();
        // The open file, what waits to be used, and two checkpoints.
        let used = world.disk.used();
        assert!(used < 6 * (64 << 10), "{used} bytes of {:?}", world.disk.names());
        world.check_everything();
    }
}
