//! `culvert log dump`, as a test asks it.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::process::Launch;
use crate::settings::Tested;
use crate::stage::Stage;
use crate::wait::PATIENCE;

/// Dumps the log's files in `folder`; returns the exit code and the objects that it prints.
///
/// # Errors
/// If it cannot look at the folder.
pub fn dump_log(stage: &Stage, folder: &Path, flags: &[&str]) -> Result<(i32, Vec<Value>)> {
    let folder = folder.to_str().context("a path that is text")?;
    let launch = Launch::new(stage, Tested::Culvert)?.arg("log").arg("dump");
    let launch =
        flags.iter().fold(launch.arg(folder).arg("--json"), |launch, flag| launch.arg(flag));
    let mut process = launch.spawn()?;
    let code = process.wait(PATIENCE)?.code().context("an exit code")?;
    ensure!(code != 2, "{}", process.log());
    let output = process.output();
    let lines: serde_json::Result<_> = output.lines().map(serde_json::from_str).collect();
    Ok((code, lines?))
}
