//! The foreign programs that tests run.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::process::wait_for_end;
use crate::settings::Settings;

/// What confluent-kafka is driven by.
pub const CONFLUENT_KAFKA_CLIENT: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/clients/kafka_client.py");

/// A program that is not ours, or that the build of the tests does not bring along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// A C compiler.
    Cc,
    /// A Python with confluent-kafka.
    ConfluentKafka,
    /// Kafka's own clients and tools.
    KafkaTools,
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
            Self::ConfluentKafka => {
                ("a Python with confluent-kafka (CULVERT_PYTHON)", Settings::python().is_some())
            }
            Self::KafkaTools => (
                "Java with Kafka's tools (CULVERT_JAVA_CLASSES)",
                is_on_path("java") && Settings::java_classes().is_some(),
            ),
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

/// Runs confluent-kafka's program, `clients/kafka_client.py`, with these arguments, and returns what it printed.
///
/// # Errors
/// If there is no Python for it, or it fails.
pub fn confluent_kafka(arguments: &[&str], patience: Duration) -> Result<String> {
    let python = Settings::python().context("CULVERT_PYTHON names no Python")?;
    let all = [&[CONFLUENT_KAFKA_CLIENT], arguments].concat();
    let output = run_tool(python, &all, patience)?;
    if !output.status.success() {
        bail!("{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Arguments for `java` to run a class of Kafka's tools: quick to start, and small.
///
/// # Errors
/// If the tools are not there.
pub fn kafka_tool(class: &str) -> Result<Vec<String>> {
    let classes = Settings::java_classes().context("CULVERT_JAVA_CLASSES names no folder")?;
    let classes = classes.join("*").to_string_lossy().into_owned();
    let fixed = ["-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp"];
    let fixed = fixed.map(str::to_owned).into_iter();
    Ok(fixed.chain([classes, class.to_owned()]).collect())
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
