//! `bench log`: the log engine beside a raw file with group commit; then the broker's start and memory.

mod closed_loop;
mod engine;
mod figures;
mod process;
mod raw;

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use closed_loop::{Commits, Driven, Load, drive};
use engine::{Engine, Files};
use figures::{LogFigures, LogSample, Store};
use raw::RawFile;

use crate::disk::Disk;
use crate::records::RECORD_BYTES;

/// How long each load runs before it is measured: memory that a process touches for the first time costs what a broker that
/// runs does not pay.
const WARM_UP: Duration = Duration::from_millis(250);

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Plan {
    /// How long each load runs, in seconds.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// How often each load runs; the medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// How many producers to load it with.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 100, 1_000])]
    producers: Vec<u32>,
    /// How many partitions to spread them over.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 12, 10_000])]
    partitions: Vec<u32>,
    /// Bytes in the log when the broker's start is timed.
    #[arg(long, default_value_t = 2 << 30)]
    bytes: u64,
    /// Leave the broker's start and memory out.
    #[arg(long)]
    no_process: bool,
    /// Leave the engine and the raw file out.
    #[arg(long)]
    no_engine: bool,
    /// Begin with an empty folder, not with WAL files to be used again.
    #[arg(long)]
    fresh: bool,
    /// The `cloud-broker` to measure.
    #[arg(long, default_value = "target/release/cloud-broker")]
    broker: PathBuf,
}

/// Measures everything.
pub fn run(plan: &Plan, folder: &Path) -> Result<LogFigures> {
    let mut samples = Vec::new();
    let files = if plan.fresh { Files::Fresh } else { Files::Recycled };
    if !plan.no_engine {
        for _ in 0..plan.rounds {
            for &partitions in &plan.partitions {
                for &producers in &plan.producers {
                    let load = Load {
                        producers,
                        partitions,
                        duration: Duration::from_secs_f64(plan.seconds),
                    };
                    for store in [Store::Raw, Store::Engine] {
                        samples.push(sample(store, load, folder, files)?);
                    }
                }
            }
        }
    }
    let process = match plan.no_process {
        true => None,
        false => Some(process::measure(&plan.broker, folder, plan.bytes)?),
    };
    Ok(LogFigures::new(&samples, plan.rounds, process))
}

fn sample(store: Store, load: Load, folder: &Path, files: Files) -> Result<LogSample> {
    // Opened and made ready outside the time that is measured.
    let (driven, written) = match store {
        Store::Engine => {
            let mut engine = Engine::open(folder, load.partitions, files)?;
            measured(&mut engine, load, folder)?
        }
        Store::Raw => measured(&mut RawFile::open(folder)?, load, folder)?,
    };
    let records = driven.latencies.len() as f64;
    let sample = LogSample {
        store,
        producers: load.producers,
        partitions: load.partitions,
        records_per_second: records / driven.elapsed.as_secs_f64(),
        p50_ms: driven.percentile_ms(0.5),
        p99_ms: driven.percentile_ms(0.99),
        written_per_byte: written.map(|bytes| bytes as f64 / (records * RECORD_BYTES as f64)),
    };
    eprintln!("{sample}");
    Ok(sample)
}

/// What came of `load`, and how many bytes went to the disk, once the store's memory was used before.
fn measured(store: &mut impl Commits, load: Load, folder: &Path) -> Result<(Driven, Option<u64>)> {
    drive(store, Load { duration: WARM_UP, ..load })?;
    let disk = Disk::of(folder)?;
    let written = || disk.as_ref().map(Disk::written_bytes).transpose();
    let before = written()?;
    let driven = drive(store, load)?;
    let bytes = written()?.zip(before).map(|(after, before)| after - before);
    Ok((driven, bytes))
}
