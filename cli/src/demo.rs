//! `culvert demo`: pulls the plug between gateway and broker while devices publish, puts it back, and accounts for every
//! reading.
//!
//! Nothing in it is staged: the devices use the SDK over TCP, gateway and broker are those of `culvert up`, the outage is
//! a network that drops every datagram, and the log is read back through the Kafka port.

mod display;
mod fleet;
mod ledger;
mod plan;
mod play;
mod relay;
mod signal;
mod site;

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use tempfile::TempDir;

use display::Display;
use ledger::Finding;
use plan::Plan;

pub use plan::Arguments;

/// Shown unless `CULVERT_LOG` says otherwise: an uplink that is lost is no news here.
const LOG_FILTER: &str = "error";

/// Exit code for flags that cannot be, as everywhere in this command.
const EXIT_USAGE: u8 = 2;

/// How long threads that still read or write a file may take after everything else has ended.
const RUNTIME_END_TIMEOUT: Duration = Duration::from_secs(1);

/// Runs a demonstration: exit code 0 if every reading is in the log once, 1 if not or if it could not be run, 2 for flags
/// that cannot be.
pub fn run(arguments: &Arguments) -> ExitCode {
    let plan = match arguments.plan() {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("culvert: {error}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    process::init_logging(LOG_FILTER);
    match demonstrate(arguments, &plan) {
        Ok(finding) if finding.complaints().is_empty() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("culvert: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demonstrate(arguments: &Arguments, plan: &Plan) -> Result<Finding> {
    process::raise_file_limit();
    let folder = tempfile::Builder::new().prefix("culvert-demo-").tempdir();
    let folder = folder.context("no temporary folder")?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    let mut display = if arguments.json { Display::on_stderr() } else { Display::on_stdout() };
    let played = runtime.block_on(play::play(plan, folder.path(), &mut display));
    runtime.shutdown_timeout(RUNTIME_END_TIMEOUT);
    let is_success = played.as_ref().is_ok_and(|finding| finding.complaints().is_empty());
    tidy_up(folder, arguments.keep || !is_success);
    let finding = played?;
    if arguments.json {
        let mut line = serde_json::to_string(&finding.ledger)?;
        line.push('\n');
        std::io::stdout().write_all(line.as_bytes()).context("cannot write the output")?;
    }
    Ok(finding)
}

fn tidy_up(folder: TempDir, keep: bool) {
    if keep {
        eprintln!("culvert: spool and log are in {}", folder.keep().display());
    } else if let Err(error) = folder.close() {
        eprintln!("culvert: the temporary folder is left: {error}");
    }
}
