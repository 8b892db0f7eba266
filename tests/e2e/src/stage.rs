//! A test's own piece of the machine.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};

use anyhow::{Context, Result};
use tempfile::TempDir;

use crate::settings::Settings;
use crate::tools::Tool;

/// Lines of each log that a failed test shows.
const LOG_LINES_SHOWN: usize = 40;

/// A temporary folder and a loopback address that nobody else uses.
///
/// With an address of its own a test may use fixed ports: a killed process comes back where its peers look for it, and
/// no other test can take the port meanwhile. The ports lie below those that systems give out by themselves.
#[derive(Debug)]
pub struct Stage {
    folder: TempDir,
    address: Ipv4Addr,
    /// The run's settings.
    pub settings: Settings,
}

impl Stage {
    /// Port of the MQTT listener.
    pub const MQTT_PORT: u16 = 21_883;
    /// Port of the Kafka listener.
    pub const KAFKA_PORT: u16 = 29_092;
    /// Port of the QUIC listener.
    pub const QUIC_PORT: u16 = 24_433;
    /// Port of the gateway's HTTP listener.
    pub const GATEWAY_HTTP_PORT: u16 = 28_080;
    /// Port of the broker's HTTP listener.
    pub const BROKER_HTTP_PORT: u16 = 28_081;

    fn new() -> Result<Self> {
        Ok(Self {
            folder: tempfile::tempdir()?,
            address: own_address(),
            settings: Settings::read()?,
        })
    }

    /// A path in the test's folder.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A socket address of this test.
    #[must_use]
    pub fn address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(IpAddr::V4(self.address), port)
    }

    fn show_logs(&self) {
        for (path, text) in logs(self.folder.path()) {
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("--- {}\n{}", path.display(), shown.join("\n"));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.show_logs();
        }
    }
}

/// Plays a test: skips it where a tool is missing, and shows the logs of all processes if it fails.
///
/// # Panics
/// If `body` fails, or if a tool is missing on a build machine.
pub fn scenario(tools: &[Tool], body: impl FnOnce(&Stage) -> Result<()>) {
    let stage = match Stage::new().context("cannot set the stage") {
        Ok(stage) => stage,
        Err(error) => panic!("{error:?}"),
    };
    for tool in tools {
        if let Err(missing) = tool.require() {
            assert!(!stage.settings.is_ci, "{missing}");
            eprintln!("skipped: {missing}");
            return;
        }
    }
    if let Err(error) = body(&stage) {
        panic!("{error:?}");
    }
}

/// 127.64.0.1 and up: by the process, so that two test runs keep apart, then counted.
fn own_address() -> Ipv4Addr {
    static TAKEN: AtomicU8 = AtomicU8::new(1);
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    let number = TAKEN.fetch_add(1, Ordering::Relaxed);
    Ipv4Addr::new(127, 64 | (high ^ middle) & 0x3f, low, number)
}

fn logs(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "log"));
    paths.sort();
    let read = |path: PathBuf| {
        let bytes = std::fs::read(&path).unwrap_or_default();
        (path, String::from_utf8_lossy(&bytes).into_owned())
    };
    paths.into_iter().map(read).collect()
}
