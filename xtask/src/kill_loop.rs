//! `cargo xtask kill-loop`: the soak form of the end-to-end kill tests.

use anyhow::{Result, ensure};

use crate::checks::{build_programs_and_tests, with_programs};
use crate::command::{cargo, output, run};

/// How often the kill tests kill; less often unless set.
const ROUNDS_ENVS: [&str; 2] = ["CULVERT_KILL_ROUNDS", "CULVERT_STORAGE_KILL_ROUNDS"];

/// What the names of the kill tests contain.
const FILTER: &str = "kill";

/// Runs the kill tests with `rounds` kills.
pub fn soak(rounds: u32) -> Result<()> {
    build_programs_and_tests()?;
    let arguments = ["test", "--package", "e2e", "--tests", "--", FILTER];
    let mut list = cargo(&arguments);
    list.args(["--list"]);
    ensure!(
        output(list)?.contains(": test"),
        "no test of package e2e has \"{FILTER}\" in its name"
    );
    let mut test = cargo(&arguments);
    test.arg("--nocapture").envs(ROUNDS_ENVS.map(|name| (name, rounds.to_string())));
    run(with_programs(test))
}
