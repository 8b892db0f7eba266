//! One run, from a seed to a verdict.

use crate::world::{Violation, World};

/// Lives of all devices of a run together; once they are used up, devices do not reboot any more.
const DEVICE_LIVES_MAX: usize = 64;

/// Whether the trace's lines are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Only their hash: for many seeds.
    Hash,
    /// All of them: for one seed.
    Lines,
}

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Hash of the trace: two runs of a seed have the same.
    pub hash: u64,
    /// The trace, if it was to be kept.
    pub trace: Option<String>,
    /// Whether every promise was kept.
    pub result: Result<(), Violation>,
}

/// Runs `seed`.
#[must_use]
pub fn run(seed: u64, keep: Keep) -> Outcome {
    let mut memory = vec![[0; _]; DEVICE_LIVES_MAX];
    match World::new(seed, keep == Keep::Lines, &mut memory) {
        Ok(world) => {
            let (result, trace) = world.run();
            let (hash, trace) = trace.finish();
            Outcome { hash, trace, result }
        }
        Err(what) => Outcome { hash: 0, trace: None, result: Err(Violation { ms: 0, what }) },
    }
}

/// The command that repeats a seed and shows what happens.
#[must_use]
pub fn command(seed: u64) -> String {
    format!("cargo run -p sim -- --seed {seed}")
}
