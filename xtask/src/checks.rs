//! `cargo xtask test` and `cargo xtask ci`.

use std::process::Command;

use anyhow::Result;

use crate::command::{cargo, run, workspace_root};
use crate::{firmware, gen_wire, setup, tidy};

/// Where the end-to-end tests find the programs they start.
const BIN_DIR_ENV: &str = "CULVERT_BIN_DIR";

/// Where the end-to-end tests find a Python that has the foreign clients of MQTT and Kafka.
const PYTHON_ENV: &str = "CULVERT_PYTHON";

/// Where the end-to-end tests find the jars of Kafka's own clients.
const JAVA_CLASSES_ENV: &str = "CULVERT_JAVA_CLASSES";

/// Where the end-to-end tests find the firmware.
const FIRMWARE_ENV: &str = "CULVERT_FIRMWARE_DIR";

/// Packages that devices use, without and with what devices may switch on: they must build without an operating system.
const BARE_METAL_PACKAGES: &[&[&str]] = &[
    &["--package", "device-sdk", "--no-default-features"],
    &["--package", "device-sdk", "--features", "minimq"],
    &["--package", "wire", "--no-default-features"],
];

/// A microcontroller of each kind: Arm Cortex-M3, and RISC-V without atomics.
const BARE_METAL_TARGETS: &[&str] = &["thumbv7m-none-eabi", "riscv32imc-unknown-none-elf"];

/// Sets the machine up, builds for bare metal and the firmware, and runs every test, or those whose name contains `filter`.
pub fn test(filter: Option<&str>) -> Result<()> {
    setup::install()?;
    for package in BARE_METAL_PACKAGES {
        for target in BARE_METAL_TARGETS {
            run(cargo(&[&["check", "--target", target], *package].concat()))?;
        }
    }
    firmware::build()?;
    build_programs_and_tests()?;
    let mut arguments = vec!["test", "--workspace"];
    arguments.extend(filter);
    run(with_programs(cargo(&arguments)))?;
    if filter.is_some() {
        return Ok(());
    }
    // Builds of their own: rules that can be broken must not be in the programs that the other tests start.
    let log =
        ["test", "--package", "broker-log", "--features", "mutants", "--test", "log", "mutants"];
    run(cargo(&log))?;
    run(cargo(&["test", "--package", "sim", "--features", "mutants", "--test", "sim", "mutants"]))
}

/// Everything a change must pass.
pub fn ci() -> Result<()> {
    test(None)?;
    run(cargo(&["fmt", "--all", "--check"]))?;
    run(cargo(&["clippy", "--workspace", "--all-targets", "--", "--deny", "warnings"]))?;
    firmware::check()?;
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

/// Tells the tests that `command` runs where the programs, the firmware and the foreign clients are.
pub fn with_programs(mut command: Command) -> Command {
    let folder = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    let target = workspace_root().join(folder);
    command.env(BIN_DIR_ENV, target.join("debug"));
    command.env(PYTHON_ENV, setup::python()).env(JAVA_CLASSES_ENV, setup::java_classes());
    command.env(FIRMWARE_ENV, firmware::folder());
    command
}
