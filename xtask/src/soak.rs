//! `cargo xtask soak`: more seeds of the simulator than a change has to pass.

use anyhow::Result;

use crate::command::{cargo, run};

/// Runs `seeds` seeds from `from` on; ends with the first that breaks a promise, and the command that repeats it.
pub fn run_seeds(seeds: u64, from: u64) -> Result<()> {
    let (seeds, from) = (seeds.to_string(), from.to_string());
    let program = ["run", "--release", "--package", "sim", "--", "--seeds", &seeds];
    let mut soak = cargo(&program);
    soak.args(["--from", &from]);
    run(soak)
}
