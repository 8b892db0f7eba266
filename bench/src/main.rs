//! Figures of the log and of the broker beside its peers, for a person to read and a program to compare.
//!
//! Everything that is compared is measured in the same run, in turns, several times, and reported as medians: on a machine
//! that does other things as well, a ratio holds where a figure alone says nothing. See `docs/benchmarks.md`.

mod broker;
mod certificate;
mod client;
mod disk;
mod kafka;
mod log;
mod process;
mod records;
mod table;
mod usage;
mod zeros;

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use serde::Serialize;

#[derive(Debug, Parser)]
#[command(name = "bench", about = "Measures Culvert's broker")]
struct Arguments {
    /// Where to write what was measured, as JSON.
    #[arg(long, global = true)]
    json: Option<PathBuf>,
    /// The folder that everything is written under; it must be on the disk that is to be measured.
    #[arg(long, global = true, default_value = "target/bench/data")]
    folder: PathBuf,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// The broker beside Apache Kafka, under the same clients.
    Kafka(kafka::Plan),
    /// The log engine beside a raw file; the broker's start and memory.
    Log(log::Plan),
}

fn main() -> Result<()> {
    let Arguments { json, folder, what } = Arguments::parse();
    std::fs::create_dir_all(&folder).with_context(|| folder.display().to_string())?;
    let folder = folder.canonicalize()?;
    match what {
        What::Kafka(plan) => report(&kafka::run(&plan, &folder)?, json.as_deref()),
        What::Log(plan) => report(&log::run(&plan, &folder)?, json.as_deref()),
    }
}

/// Something that was measured.
trait Figures: Serialize {
    /// The figures as a table for a person.
    fn table(&self) -> String;
}

fn report(figures: &impl Figures, json: Option<&Path>) -> Result<()> {
    std::io::stdout().write_all(figures.table().as_bytes())?;
    if let Some(path) = json {
        let text = serde_json::to_string_pretty(figures)?;
        std::fs::write(path, text + "\n").with_context(|| path.display().to_string())?;
    }
    Ok(())
}
