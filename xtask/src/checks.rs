//! `cargo xtask test` and `cargo xtask ci`.

use std::process::Command;

use anyhow::Result;

use crate::command::{cargo, run, workspace_root};
use crate::{gen_wire, setup, tidy};

/// Where the end-to-end tests find the programs they start.
const BIN_DIR_ENV: &str = "CULVERT_BIN_DIR";

/// Where the end-to-end tests find a Python that has the foreign MQTT client.
const PYTHON_ENV: &str = "CULVERT_PYTHON";

/// Packages that devices use: they must build without an operating system.
const BARE_METAL_PACKAGES: &[&str] = &["device-sdk", "wire"];

/// A microcontroller of each kind: Arm Cortex-M3, and RISC-V without atomics.
const BARE_METAL_TARGETS: &[&str] = &["thumbv7m-none-eabi", "riscv32imc-unknown-none-elf"];

/// Sets the machine up, builds for bare metal, and runs every test, or those whose name contains `filter`.
pub fn test(filter: Option<&str>) -> Result<()> {
    setup::install()?;
    for package in BARE_METAL_PACKAGES {
        for target in BARE_METAL_TARGETS {
            run(cargo(&[
                "check",
                "--package",
                package,
                "--no-default-features",
                "--target",
                target,
            ]))?;
        }
    }
    build_programs_and_tests()?;
    let mut arguments = vec!["test", "--workspace"];
    arguments.extend(filter);
    run(with_programs(cargo(&arguments)))?;
    // A build of its own: rules that can be broken must not be in the programs that the other tests start.
    run(cargo(&["test", "--package", "sim", "--features", "mutants", "--test", "sim", "mutants"]))
}

/// Everything a change must pass.
pub fn ci() -> Result<()> {
    test(None)?;
    run(cargo(&["fmt", "--all", "--check"]))?;
    run(cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    let mut doc = cargo(&["doc", "--workspace", "--no-deps"]);
    doc.env("RUSTDOCFLAGS", "--deny warnings");
    run(doc)?;
    tidy::run()?;
    gen_wire::run(true)
}

/// Builds the programs that the end-to-end tests start, together with all tests: one build, so that both share every
/// dependency. The development profile starts testing minutes earlier, and what is tested does not depend on speed.
pub fn build_programs_and_tests() -> Result<()> {
    run(cargo(&["build", "--workspace", "--bins", "--tests"]))
}

/// Tells the tests that `command` runs where the programs and the foreign clients are.
pub fn with_programs(mut command: Command) -> Command {
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = workspace_root().join(folder);
    command.env(BIN_DIR_ENV, target.join("debug")).env(PYTHON_ENV, setup::python());
    command
}
