//! What a run of the tests can be told, all through the environment: test binaries have no flags of their own.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};

/// Kills of each process in the kill tests: enough to meet the interesting moments, and done in a minute.
const KILL_ROUNDS_DEFAULT: u32 = 20;
const STORAGE_KILL_ROUNDS_DEFAULT: u32 = 200;

/// How long the broker stays away in the outage test, in seconds.
const OUTAGE_SECONDS_DEFAULT: u64 = 10;

/// Where `cargo xtask firmware` puts the firmware.
const FIRMWARE_DIR_DEFAULT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../firmware-examples/target/thumbv7m-none-eabi/release"
);

/// The one board that QEMU emulates with a network.
const FIRMWARE: &str = "mps2-an385";

/// The programs under test.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tested {
    /// `cloud-broker`
    Broker,
    /// `culvert`
    Culvert,
    /// `edge-gateway`
    Gateway,
}

impl Tested {
    fn program(self) -> &'static str {
        match self {
            Self::Broker => "cloud-broker",
            Self::Culvert => "culvert",
            Self::Gateway => "edge-gateway",
        }
    }

    /// Where the program is: in `CULVERT_BIN_DIR`, or else where the running test was built, or else in the folder of
    /// the other profile beside it.
    ///
    /// # Errors
    /// Says how to build it, if it is not there.
    pub fn path(self) -> Result<PathBuf> {
        let folders = match std::env::var_os("CULVERT_BIN_DIR") {
            Some(folder) => vec![PathBuf::from(folder)],
            None => build_folders(&std::env::current_exe()?),
        };
        let found = folders.iter().map(|folder| folder.join(self.program()));
        let Some(path) = found.into_iter().find(|path| path.is_file()) else {
            bail!(
                "{} is not in {folders:?}; build it with: cargo build -p cli -p edge-gateway -p cloud-broker",
                self.program()
            );
        };
        Ok(path)
    }
}

/// The folder of the profile that `executable` was built in, then its sibling's: `target/debug`, `target/release`.
fn build_folders(executable: &Path) -> Vec<PathBuf> {
    let own = executable.ancestors().find(|folder| {
        let name = folder.file_name();
        name.is_some_and(|name| name == "debug" || name == "release")
    });
    let Some(own) = own else { return Vec::new() };
    let other = if own.ends_with("debug") { "release" } else { "debug" };
    vec![own.to_owned(), own.with_file_name(other)]
}

/// The numbers that a run can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// Kills of each process (`CULVERT_KILL_ROUNDS`).
    pub kill_rounds: u32,
    /// Kills of a broker whose log is worked on (`CULVERT_STORAGE_KILL_ROUNDS`).
    pub storage_kill_rounds: u32,
    /// How long the broker stays away (`CULVERT_OUTAGE_SECONDS`).
    pub outage: Duration,
    /// What random choices follow from (`CULVERT_SEED`), to repeat a run that failed.
    pub seed: u64,
    /// Whether this is a build machine (`CI`), where a missing tool is a failure.
    pub is_ci: bool,
}

impl Settings {
    /// Reads the environment.
    ///
    /// # Errors
    /// Names the variable that is not a number.
    pub fn read() -> Result<Self> {
        let rounds = |name: &str, default: u32| match number(name)? {
            Some(rounds) => u32::try_from(rounds).with_context(|| format!("{name} is too large")),
            None => Ok(default),
        };
        let outage = number("CULVERT_OUTAGE_SECONDS")?.unwrap_or(OUTAGE_SECONDS_DEFAULT);
        Ok(Self {
            kill_rounds: rounds("CULVERT_KILL_ROUNDS", KILL_ROUNDS_DEFAULT)?,
            storage_kill_rounds: rounds(
                "CULVERT_STORAGE_KILL_ROUNDS",
                STORAGE_KILL_ROUNDS_DEFAULT,
            )?,
            outage: Duration::from_secs(outage),
            seed: number("CULVERT_SEED")?.unwrap_or_else(fresh_seed),
            is_ci: std::env::var_os("CI").is_some_and(|value| !value.is_empty()),
        })
    }

    /// The folder of the jars of Kafka's own clients, if there is one (`CULVERT_JAVA_CLASSES`, which `cargo xtask test` sets).
    #[must_use]
    pub fn java_classes() -> Option<PathBuf> {
        let path = PathBuf::from(std::env::var_os("CULVERT_JAVA_CLASSES")?);
        path.is_dir().then_some(path)
    }

    /// The firmware, which need not be there: in `CULVERT_FIRMWARE_DIR`, or else where it is built.
    #[must_use]
    pub fn firmware() -> PathBuf {
        let folder = std::env::var_os("CULVERT_FIRMWARE_DIR");
        folder.map_or_else(|| PathBuf::from(FIRMWARE_DIR_DEFAULT), PathBuf::from).join(FIRMWARE)
    }

    /// A Python that has paho-mqtt, if there is one (`CULVERT_PYTHON`, which `cargo xtask test` sets).
    #[must_use]
    pub fn python() -> Option<PathBuf> {
        let path = PathBuf::from(std::env::var_os("CULVERT_PYTHON")?);
        path.is_file().then_some(path)
    }
}

fn number(name: &str) -> Result<Option<u64>> {
    match std::env::var(name) {
        Ok(text) => {
            text.parse().map(Some).with_context(|| format!("{name} is {text:?}, expected a number"))
        }
        Err(_) => Ok(None),
    }
}

fn fresh_seed() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let nanos = now.map_or(0, |since| since.subsec_nanos());
    u64::from(nanos) << 20 | u64::from(std::process::id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_looked_for_in_both_profiles() {
        let folders = build_folders(Path::new("/w/target/release/deps/e2e-1f"));
        assert_eq!(folders, [Path::new("/w/target/release"), Path::new("/w/target/debug")]);
        assert!(build_folders(Path::new("/usr/bin/e2e")).is_empty());
    }
}
