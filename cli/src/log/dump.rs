//! `culvert log dump`: prints files of the log as their formats in docs/formats describe them, or checks every checksum.
//!
//! It only reads, takes no lock, and holds a slot, a run or a section in memory at a time. A broker that is running changes files
//! meanwhile: what is found damaged in a file that it has given back since is not reported.

mod batches;
mod checkpoint;
mod damage;
mod file;
mod find;
mod folder;
mod item;
mod output;
mod partition;
mod unit;
mod wal;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result};
use broker_log::PartitionKey;

use find::Found;
use output::{Format, Output};

/// What `culvert log dump` takes.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The broker's data folder, another folder with files of a log, or one such file.
    path: PathBuf,
    /// Check every checksum, those of batches too, and what files say of each other; print only what is wrong.
    #[arg(long, conflicts_with_all = ["topic_no", "records"])]
    verify: bool,
    /// One JSON object per line.
    #[arg(long)]
    json: bool,
    /// Print only what concerns the topic of this number.
    #[arg(long, value_name = "NUMBER")]
    topic_no: Option<u32>,
    /// Print only what concerns this partition of the topic.
    #[arg(long, requires = "topic_no")]
    partition: Option<u32>,
    /// Print batches and their records too.
    #[arg(long)]
    records: bool,
}

/// What is wanted of a file.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    topic_no: Option<u32>,
    partition: Option<u32>,
    depth: Depth,
}

/// How far to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Depth {
    /// Batches are checked, nothing is printed.
    Verify,
    /// Runs are printed.
    Runs,
    /// Batches and records are printed.
    Records,
}

impl Wanted {
    fn of(arguments: &Arguments) -> Self {
        let depth = match (arguments.verify, arguments.records) {
            (true, _) => Depth::Verify,
            (false, true) => Depth::Records,
            (false, false) => Depth::Runs,
        };
        Self { topic_no: arguments.topic_no, partition: arguments.partition, depth }
    }

    /// Whether something is left out.
    fn is_part(&self) -> bool {
        self.topic_no.is_some()
    }

    fn takes(&self, key: PartitionKey) -> bool {
        self.topic_no.is_none_or(|topic_no| topic_no == key.topic_no.0)
            && self.partition.is_none_or(|partition| partition == key.partition.0)
    }

    fn reads_batches(&self) -> bool {
        match self.depth {
            Depth::Verify | Depth::Records => true,
            Depth::Runs => false,
        }
    }
}

/// Exit code 0: nothing is damaged. 1: something is. 2: it could not be read, or the flags cannot be.
pub fn run(arguments: &Arguments) -> ExitCode {
    let format = if arguments.json { Format::Json } else { Format::Text };
    let wanted = Wanted::of(arguments);
    let mut output = Output::new(io::stdout().lock(), format, wanted.depth);
    match dump(&arguments.path, &wanted, &mut output) {
        Ok(()) if output.damaged() == 0 => ExitCode::SUCCESS,
        Ok(()) => ExitCode::FAILURE,
        // Whoever read the output has seen enough.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("culvert: {error:#}");
            ExitCode::from(2)
        }
    }
}

fn dump(path: &Path, wanted: &Wanted, output: &mut Output<impl io::Write>) -> Result<()> {
    let found = find::find(path).with_context(|| format!("cannot read {}", path.display()))?;
    match found {
        Found::File(file) => folder::dump_one(&file, wanted, output)?,
        Found::Folder(files) => folder::dump_all(&files, wanted, output)?,
    }
    output.finish().context("cannot write the output")
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<io::Error>());
    io.is_some_and(|error| error.kind() == ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests;
