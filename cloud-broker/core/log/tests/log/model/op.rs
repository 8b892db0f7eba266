//! What a workload does, one step at a time, and how a seed draws it.

use broker_log::sim_disk::Trouble;

use crate::batches::Rng;

/// One step. Numbers that name a partition, a job or the like are taken modulo how many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Op {
    /// A batch is sent to a partition.
    Send { part: u64, from: From, records: u32, bytes: usize, timestamp: i64 },
    /// An idempotent producer sends one of its last batches again.
    SendAgain { part: u64, pid: i64, back: usize },
    /// The next slot goes to the disk's cache, if none is on its way.
    Write,
    /// It is synced.
    Sync,
    /// Part of a partition is read, from so many thousandths of it on.
    Read { part: u64, at: i64, max_bytes: usize },
    /// As `Read`, but the plan is kept for a while before it is carried out.
    Hold { part: u64, at: i64, max_bytes: usize },
    /// The oldest plan that was kept is carried out.
    ReadHeld,
    /// The first batch of a partition that is at least so late is looked for.
    Lookup { part: u64, timestamp: i64 },
    /// The records of a partition before so many thousandths of it are deleted.
    Delete { part: u64, at: i64 },
    /// Time goes by.
    Pass { ms: i64 },
    /// The wall clock shows another time for a moment.
    WallJumps { ms: i64 },
    /// The next job is taken.
    TakeJob,
    /// A job runs, and perhaps a call of it fails.
    RunJob { job: u64, pace: u64, fails: Option<(usize, Trouble)> },
    /// The result of a job is given back.
    EndJob { job: u64 },
    /// A checkpoint is asked for.
    Checkpoint,
    /// A topic is made.
    AddTopic { partitions: u32 },
    /// A topic is removed.
    RemoveTopic { topic: u64 },
    /// A topic gets another policy.
    Policy { topic: u64, which: u64 },
}

/// Who sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    Idempotent(i64),
    Plain,
    Uplink(i64),
}

/// Draws a step; `busy` of 100 of them are about jobs.
pub fn draw(rng: &mut Rng, busy: u64) -> Op {
    let part = rng.next();
    if rng.below(100) < busy {
        let job = rng.next();
        return match rng.below(8) {
            0..3 => Op::TakeJob,
            3..6 => Op::RunJob { job, pace: pace(rng), fails: trouble(rng) },
            _ => Op::EndJob { job },
        };
    }
    match rng.below(100) {
        0..36 => send(rng),
        36..40 => Op::SendAgain { part, pid: rng.below(3) as i64, back: rng.below(7) as usize },
        40..54 => Op::Write,
        54..70 => Op::Sync,
        70..76 => Op::Read { part, at: rng.below(1001) as i64, max_bytes: limit(rng) },
        76..79 => Op::Hold { part, at: rng.below(1001) as i64, max_bytes: limit(rng) },
        79..82 => Op::ReadHeld,
        82..85 => Op::Lookup { part, timestamp: rng.below(1_100) as i64 },
        85..87 => Op::Delete { part, at: rng.below(1001) as i64 },
        87..94 => Op::Pass { ms: [1, 50, 1_200, 30_000, 90_000][rng.below(5) as usize] },
        94 => Op::WallJumps { ms: [-86_400_000, 864_000_000][rng.below(2) as usize] },
        95 => Op::Checkpoint,
        96 => Op::AddTopic { partitions: 1 + rng.below(2) as u32 },
        97 => Op::RemoveTopic { topic: rng.next() },
        _ => Op::Policy { topic: rng.next(), which: rng.next() },
    }
}

fn send(rng: &mut Rng) -> Op {
    let from = match rng.below(3) {
        0 => From::Idempotent(rng.below(3) as i64),
        1 => From::Plain,
        _ => From::Uplink(rng.below(3) as i64),
    };
    Op::Send {
        part: rng.next(),
        from,
        records: 1 + rng.below(3) as u32,
        // The last ones are larger than a WAL file.
        bytes: if rng.below(60) == 0 {
            70_000
        } else {
            [40, 40, 700, 3_000, 9_000, 30_000][rng.below(6) as usize]
        },
        timestamp: rng.below(1_000) as i64,
    }
}

fn limit(rng: &mut Rng) -> usize {
    [1, 500, 5_000, 40_000, 1 << 20][rng.below(5) as usize]
}

/// After how many writes a job is told to stop.
fn pace(rng: &mut Rng) -> u64 {
    if rng.below(6) == 0 { rng.below(4) } else { u64::MAX }
}

fn trouble(rng: &mut Rng) -> Option<(usize, Trouble)> {
    let trouble = [Trouble::Io, Trouble::Full][rng.below(2) as usize];
    (rng.below(6) == 0).then(|| (rng.below(9) as usize, trouble))
}
