//! `culvert log`: the files of the broker's log, without the broker.

mod dump;

use std::process::ExitCode;

/// What can be done with them.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Prints what WAL files, units and checkpoints hold, or checks it. The broker may be running.
    Dump(dump::Arguments),
}

/// Runs one.
pub fn run(command: &Command) -> ExitCode {
    match command {
        Command::Dump(arguments) => dump::run(arguments),
    }
}
