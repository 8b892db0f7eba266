//! `cargo xtask firmware`: the boards, which are a workspace of their own with one target and one profile.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::command::{cargo, run, workspace_root};

const WORKSPACE: &str = "firmware-examples";

/// The boards' processor, as `firmware-examples/.cargo/config.toml` names it.
const TARGET: &str = "thumbv7m-none-eabi";

/// Builds all boards, for size, as they would be shipped.
pub fn build() -> Result<()> {
    run(in_workspace(&["build", "--release"]))
}

/// Formatting and lints. There is no test harness on a board, so `--all-targets` would find one missing.
pub fn check() -> Result<()> {
    run(in_workspace(&["fmt", "--all", "--check"]))?;
    run(in_workspace(&["clippy", "--release", "--bins", "--", "--deny", "warnings"]))
}

/// Where the built images are.
pub fn folder() -> PathBuf {
    target().join(TARGET).join("release")
}

/// Apart from the main build: the two share no crate, and a common folder would make each wait for the other's lock.
fn target() -> PathBuf {
    workspace_root().join(WORKSPACE).join("target")
}

fn in_workspace(arguments: &[&str]) -> Command {
    let mut command = cargo(arguments);
    command.current_dir(workspace_root().join(WORKSPACE)).env("CARGO_TARGET_DIR", target());
    command
}
