//! The firmware on an emulated board.

use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::process::{Launch, Process};
use crate::settings::Settings;
use crate::stage::Stage;

const EMULATOR: &str = "qemu-system-arm";

/// After this the firmware ends by itself, with a failure that says how far it came.
const PATIENCE_SECONDS: u32 = 120;

/// What the firmware is told to do.
#[derive(Debug, Clone)]
pub struct BoardPlan {
    /// The port on the machine's loopback address where it connects to.
    pub port: u16,
    /// Its device id.
    pub device: String,
    /// How many readings it takes.
    pub readings: u32,
    /// Between two readings.
    pub pause: Duration,
    /// What is random on the board follows from this.
    pub seed: u64,
}

/// A board at work; switched off when dropped.
#[derive(Debug)]
pub struct Board {
    process: Process,
}

impl BoardPlan {
    /// Switches it on.
    ///
    /// # Errors
    /// If the emulator cannot be started.
    pub fn start(&self, stage: &Stage) -> Result<Board> {
        let words = [
            format!("port={}", self.port),
            format!("device={}", self.device),
            format!("readings={}", self.readings),
            format!("pause={}", self.pause.as_millis()),
            format!("patience={PATIENCE_SECONDS}"),
            format!("seed={}", self.seed),
        ];
        Board::boot(stage, &words)
    }
}

impl Board {
    /// Switches a board on with these words on its command line.
    ///
    /// # Errors
    /// If the emulator cannot be started.
    pub fn boot(stage: &Stage, words: &[String]) -> Result<Self> {
        let mut semihosting = "enable=on,target=native,arg=firmware".to_owned();
        for word in words {
            // A comma is doubled, or else it ends the argument.
            semihosting.push_str(&format!(",arg={}", word.replace(',', ",,")));
        }
        let launch = Launch::foreign(stage, Path::new(EMULATOR))
            .flag("-M", "mps2-an385")
            .flag("-display", "none")
            .flag("-monitor", "none")
            .flag("-serial", "none")
            .flag("-nic", "user")
            .flag("-semihosting-config", semihosting)
            .flag("-kernel", Settings::firmware());
        Ok(Self { process: launch.spawn()? })
    }

    /// Checks that it is still at work.
    ///
    /// # Errors
    /// If it has ended.
    pub fn check_running(&mut self) -> Result<()> {
        self.process.check_running()
    }

    /// Waits for its end with a failure, and returns what it printed.
    ///
    /// # Errors
    /// If it succeeds, or does not end within `patience`.
    pub fn fail(&mut self, patience: Duration) -> Result<String> {
        let status = self.process.wait(patience)?;
        let printed = self.process.output();
        // 1 is what semihosting makes of a failure; a signal or a fault of the emulator's own is something else.
        ensure!(status.code() == Some(1), "the firmware ended with {status}: {printed}");
        Ok(printed)
    }

    /// Waits for its end, and returns what it printed.
    ///
    /// # Errors
    /// If it ends with a failure, or not within `patience`.
    pub fn finish(&mut self, patience: Duration) -> Result<String> {
        let status = self.process.wait(patience)?;
        let printed = self.process.output();
        ensure!(status.success(), "the firmware ended with {status}: {printed}");
        Ok(printed)
    }
}
