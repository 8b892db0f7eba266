//! One workload, written down, that dies at each of its calls to the disk: after each create, write, sync, rename, unlink.
//! What was not synced survives in several subsets. Then another process goes on, dies without power as well, and a third
//! one finds everything that was ever acknowledged or read.

use broker_log::recover;
use broker_log::sim_disk::{Death, DiskError};

use super::op::{From, Op};
use super::world::{World, tiny};
use crate::batches::Rng;

/// What becomes of what was not synced.
#[derive(Debug, Clone, Copy)]
enum After {
    /// The page cache survives: only the process died.
    Cache,
    /// All of it is lost.
    Nothing,
    /// A random half survives.
    Some(u64),
}

/// How the process dies, and what survives.
const ENDS: &[(Death, After)] = &[
    (Death::Killed, After::Cache),
    (Death::Killed, After::Nothing),
    (Death::Killed, After::Some(1)),
    (Death::Killed, After::Some(2)),
    (Death::FailedSync, After::Cache),
    (Death::FailedSync, After::Some(3)),
];

pub(super) fn send(part: u64, from: From, bytes: usize) -> Op {
    Op::Send { part, from, records: 2, bytes, timestamp: 500 }
}

/// Every kind of sender and job at least once: files are rolled, sealed, rewritten and recycled, records are deleted, a
/// topic goes, retention drops what is old, checkpoints replace each other.
pub(super) fn script() -> Vec<Op> {
    let job = Op::RunJob { job: 0, pace: u64::MAX, fails: None };
    let jobs = [Op::TakeJob, job, Op::EndJob { job: 0 }];
    let mut ops = vec![Op::AddTopic { partitions: 1 }, Op::Policy { topic: 1, which: 4 }];
    for round in 0..9_u64 {
        for part in 0..5 {
            let from = [From::Plain, From::Idempotent(part as i64 % 2), From::Uplink(1)];
            ops.push(send(part, from[((round + part) % 3) as usize], 3_000));
        }
        ops.extend([Op::Write, send(round % 5, From::Idempotent(2), 40), Op::Sync]);
        ops.extend([Op::Write, send(round % 4, From::Uplink(2), 9_000), Op::Sync]);
        ops.extend(jobs);
        match round {
            2 => ops.push(Op::Checkpoint),
            3 => ops.push(Op::Delete { part: 0, at: 600 }),
            4 => ops.push(Op::Pass { ms: 90_000 }),
            5 => ops.push(Op::RemoveTopic { topic: 2 }),
            6 => ops.extend([Op::Checkpoint, Op::Pass { ms: 2_000 }]),
            7 => ops.push(Op::Delete { part: 1, at: 1_000 }),
            _ => ops.push(Op::Pass { ms: 1_500 }),
        }
        for _ in 0..6 {
            ops.extend(jobs);
            ops.extend([Op::Write, Op::Sync, Op::Pass { ms: 300 }]);
        }
    }
    ops
}

pub(super) fn play(world: &mut World, ops: &[Op]) -> Result<(), DiskError> {
    world.open()?;
    for op in ops {
        world.step(*op)?;
    }
    world.stop()
}

#[test]
pub(super) fn nothing_is_lost_wherever_the_process_dies() {
    let ops = script();
    let mut whole = World::new(tiny());
    play(&mut whole, &ops).unwrap();
    let calls = whole.disk.calls();
    assert!(calls > 150, "the workload reaches the disk: {calls} calls");
    // Not every end at every call: those of a call follow each other over the calls.
    for call in 0..calls {
        for nth in 0..3 {
            let (death, after) = ENDS[(call + nth * 2) % ENDS.len()];
            die_at(&ops, call, death, after);
        }
    }
}

#[test]
fn an_orderly_end_leaves_nothing_to_replay_and_an_idle_log_writes_nothing() {
    let mut world = World::new(tiny());
    play(&mut world, &script()).unwrap();
    let recovered = recover(&mut world.disk.clone()).unwrap();
    assert_eq!(recovered.report.slots, 0, "{:?}", recovered.report);
    world.settle().unwrap();
    // Files and units may still grow too old for where they are.
    for _ in 0..3 {
        world.pass(2 * 3_600_000);
        world.settle().unwrap();
    }
    let calls = world.disk.calls();
    for _ in 0..10 {
        world.pass(3_600_000);
        world.settle().unwrap();
    }
    assert_eq!(world.disk.calls(), calls, "an idle log writes nothing");
}

#[test]
fn a_checkpoint_that_reads_back_is_there_to_stay() {
    // Everything is deleted, so the first checkpoint makes the next start give files back.
    let mut ops: Vec<Op> = Vec::new();
    for round in 0..8 {
        ops.extend([send(round, From::Plain, 30_000), Op::Write, Op::Sync]);
    }
    ops.extend((0..4).map(|part| Op::Delete { part, at: 1_000 }));
    let mut freed = 0;
    for call in 0..40 {
        let mut world = World::new(tiny());
        world.open().unwrap();
        for op in &ops {
            world.step(*op).unwrap();
        }
        let files = world.disk.file_nos().len();
        world.disk.die_after(call, Death::Killed);
        let died = world.stop();
        world.die();
        world.open().unwrap();
        freed += usize::from(died.is_err() && world.disk.file_nos().len() < files);
        world.die();
        world.disk.lose_power(&mut || false);
        world.open().unwrap();
    }
    assert!(freed > 0, "a start has given something back");
}

fn die_at(ops: &[Op], call: usize, death: Death, after: After) {
    let case = OnPanic(format!("call {call}, {death:?}, {after:?}"));
    let mut world = World::new(tiny());
    world.disk.die_after(call, death);
    play(&mut world, ops).unwrap_err();
    world.die();
    lose_power(&mut world, after, call);
    // A second one begins, dies soon or after some work, and loses everything that it did not sync.
    let mut rng = Rng(call as u64);
    world.disk.die_after(rng.below(60) as usize, Death::Killed);
    let died = play(&mut world, &ops[..60]);
    world.die();
    let power = if died.is_ok() { After::Nothing } else { After::Some(4) };
    lose_power(&mut world, power, call);
    play(&mut world, &ops[60..90]).unwrap();
    drop(case);
}

fn lose_power(world: &mut World, after: After, call: usize) {
    match after {
        After::Cache => {}
        After::Nothing => world.disk.lose_power(&mut || false),
        After::Some(seed) => {
            let mut rng = Rng(seed << 32 | call as u64);
            world.disk.lose_power(&mut || rng.below(2) == 0);
        }
    }
}

/// Says which case it was if it fails.
struct OnPanic(String);

impl Drop for OnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.0);
        }
    }
}
