//! A library put before the system's `fsync` and `fdatasync`, to delay them or make them fail while a process runs.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::process::Launch;
use crate::stage::Stage;
use crate::tools::run_tool;

const SOURCE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/shim/sync_shim.c");

const COMPILE_PATIENCE: Duration = Duration::from_secs(60);

/// The library, and the file that tells it what to do.
#[derive(Debug)]
pub struct SyncShim {
    library: PathBuf,
    orders: PathBuf,
    count: PathBuf,
}

impl SyncShim {
    /// Compiles it. Syncs go through as they are until told otherwise.
    ///
    /// # Errors
    /// If the compiler fails.
    pub fn new(stage: &Stage) -> Result<Self> {
        let shim = Self {
            library: stage.path("sync_shim.so"),
            orders: stage.path("sync_shim.orders"),
            count: stage.path("sync_shim.count"),
        };
        let library = shim.library.to_string_lossy();
        #[rustfmt::skip]
        let arguments = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", &library, SOURCE];
        let output = run_tool("cc", &arguments, COMPILE_PATIENCE)?;
        ensure!(output.status.success(), "cc failed: {}", String::from_utf8_lossy(&output.stderr));
        shim.pass()?;
        Ok(shim)
    }

    /// Puts it before a process that is about to be started.
    #[must_use]
    pub fn before(&self, launch: Launch) -> Launch {
        launch
            .env("LD_PRELOAD", &self.library)
            .env("SYNC_SHIM_ORDERS", &self.orders)
            .env("SYNC_SHIM_COUNT", &self.count)
    }

    /// Lets syncs through from now on.
    ///
    /// # Errors
    /// If the orders cannot be written.
    pub fn pass(&self) -> Result<()> {
        self.order("pass")
    }

    /// Delays every sync from now on.
    ///
    /// # Errors
    /// If the orders cannot be written.
    pub fn delay(&self, time: Duration) -> Result<()> {
        self.order(&format!("delay {}", time.as_millis()))
    }

    /// Makes every sync fail from now on.
    ///
    /// # Errors
    /// If the orders cannot be written.
    pub fn fail(&self) -> Result<()> {
        self.order("fail")
    }

    /// Makes every sync of a file fail from now on whose path has this part.
    ///
    /// # Errors
    /// If the orders cannot be written.
    pub fn fail_in(&self, part: &str) -> Result<()> {
        self.order(&format!("fail {part}"))
    }

    /// Syncs that the process has asked for so far.
    #[must_use]
    pub fn syncs(&self) -> u64 {
        std::fs::metadata(&self.count).map_or(0, |file| file.len())
    }

    /// Replaced whole, so that a sync reads the old order or the new one.
    fn order(&self, text: &str) -> Result<()> {
        let new = self.orders.with_extension("new");
        std::fs::write(&new, text)?;
        Ok(std::fs::rename(new, &self.orders)?)
    }
}
