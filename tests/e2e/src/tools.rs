//! The foreign programs that tests run.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::wait_for_end;
use crate::settings::Settings;

/// A program that is not ours, or that the build of the tests does not bring along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// A C compiler.
    Cc,
    /// The firmware for a board.
    Firmware,
    /// The Kafka command line.
    Kcat,
    /// `mosquitto_pub` and `mosquitto_sub`.
    Mosquitto,
    /// A Python with paho-mqtt.
    Paho,
    /// The emulator that runs the firmware.
    Qemu,
}

impl Tool {
    /// Checks that the tool is there.
    ///
    /// # Errors
    /// Says how to get it.
    pub fn require(self) -> Result<()> {
        let (name, found) = match self {
            Self::Cc => ("cc", is_on_path("cc")),
            Self::Firmware => ("the firmware", Settings::firmware().is_file()),
            Self::Kcat => ("kcat", is_on_path("kcat")),
            Self::Mosquitto => ("mosquitto_pub", is_on_path("mosquitto_pub")),
            Self::Paho => {
                ("a Python with paho-mqtt (CULVERT_PYTHON)", Settings::python().is_some())
            }
            Self::Qemu => ("qemu-system-arm", is_on_path("qemu-system-arm")),
        };
        if !found {
            let task = if self == Self::Firmware { "firmware" } else { "setup" };
            bail!("{name} is not there; get it with: cargo xtask {task}");
        }
        Ok(())
    }
}

fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder: PathBuf| folder.join(program).is_file())
}

/// Runs a foreign program to its end, without input, and kills it if it takes longer than `patience`.
///
/// # Errors
/// If it cannot be started or did not end by itself.
pub fn run_tool(
    program: impl AsRef<OsStr>,
    arguments: &[&str],
    patience: Duration,
) -> Result<Output> {
    let program = program.as_ref();
    let shown = format!("{} {}", program.to_string_lossy(), arguments.join(" "));
    // Outputs go to files: a full pipe would stop the program, which nobody reads before it ends.
    let (out, err) = (tempfile::tempfile()?, tempfile::tempfile()?);
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(err.try_clone()?)
        .spawn()
        .with_context(|| format!("cannot start {shown}"))?;
    let status = wait_for_end(&mut child, patience)?;
    let (stdout, stderr) = (contents(out)?, contents(err)?);
    let Some(status) = status else {
        // It may end at this very moment.
        let _ = child.kill();
        let _ = child.wait();
        bail!(
            "`{shown}` did not end within {} s: {}",
            patience.as_secs(),
            String::from_utf8_lossy(&stderr)
        );
    };
    Ok(Output { status, stdout, stderr })
}

fn contents(mut file: std::fs::File) -> Result<Vec<u8>> {
    use std::io::{Read, Seek};
    let mut bytes = Vec::new();
    file.rewind()?;
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}
