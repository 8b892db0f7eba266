//! `cargo xtask soak`: more seeds than a change has to pass.

use anyhow::Result;

use crate::command::{cargo, run};

/// Cases of recycled WAL files for each seed: the log's seeds take longer than these.
const STALE_CASES_PER_SEED: u64 = 50;

/// Runs `seeds` seeds of the log's model, then of the simulator, from `from` on; ends with the first that breaks a promise,
/// and what repeats it.
pub fn run_seeds(seeds: u64, from: u64) -> Result<()> {
    let stale_cases = seeds.saturating_mul(STALE_CASES_PER_SEED).to_string();
    let (seeds, from) = (seeds.to_string(), from.to_string());
    let mut log =
        cargo(&["test", "--release", "--package", "broker-log", "--test", "log", "model"]);
    log.env("CULVERT_LOG_SEEDS", &seeds).env("CULVERT_LOG_SEEDS_FROM", &from);
    log.env("CULVERT_LOG_STALE_CASES", stale_cases).env("CULVERT_LOG_FLIP_STRIDE", "7");
    run(log)?;
    let program = ["run", "--release", "--package", "sim", "--", "--seeds", &seeds];
    let mut soak = cargo(&program);
    soak.args(["--from", &from]);
    run(soak)
}
