//! What was measured, and what it comes to.

use std::fmt;

use serde::Serialize;

use super::process::ProcessFigures;
use crate::Figures;
use crate::table::{Table, median};

/// What made the records durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// The log engine.
    Engine,
    /// A file.
    Raw,
}

/// One load on one of them.
#[derive(Debug)]
pub struct LogSample {
    pub store: Store,
    pub producers: u32,
    pub partitions: u32,
    pub records_per_second: f64,
    pub p50_ms: f64,
    pub p99_ms: f64,
    /// Bytes that went to the disk for each byte of a record; `None` where the disk does not count.
    pub written_per_byte: Option<f64>,
}

impl fmt::Display for LogSample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { store, producers, partitions, .. } = self;
        write!(
            f,
            "{producers} producers, {partitions} partitions, {store:?}: {:.0} records/s, p50 {:.3} ms, p99 {:.3} ms, \
             {} bytes written a byte",
            self.records_per_second,
            self.p50_ms,
            self.p99_ms,
            written(self.written_per_byte)
        )
    }
}

/// Everything, as medians over the rounds.
#[derive(Debug, Serialize)]
pub struct LogFigures {
    rounds: u32,
    cells: Vec<Cell>,
    process: Option<ProcessFigures>,
}

#[derive(Debug, Serialize)]
struct Cell {
    producers: u32,
    partitions: u32,
    engine: Summary,
    raw: Summary,
    /// The engine's divided by the raw file's; medians of the rounds' ratios.
    throughput_ratio: f64,
    p99_ratio: f64,
}

#[derive(Debug, Serialize)]
struct Summary {
    records_per_second: f64,
    p50_ms: f64,
    p99_ms: f64,
    written_per_byte: Option<f64>,
}

fn written(per_byte: Option<f64>) -> String {
    per_byte.map_or_else(String::new, |bytes| format!("{bytes:.2}"))
}

impl LogFigures {
    /// Draws the medians.
    pub fn new(samples: &[LogSample], rounds: u32, process: Option<ProcessFigures>) -> Self {
        let key = |sample: &LogSample| (sample.partitions, sample.producers);
        let mut keys: Vec<_> = samples.iter().map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        let cells = keys.into_iter().map(|of| {
            let stored = |store: Store| -> Vec<&LogSample> {
                let samples = samples.iter();
                samples.filter(|sample| sample.store == store && key(sample) == of).collect()
            };
            let (engine, raw) = (stored(Store::Engine), stored(Store::Raw));
            let ratio = |value: fn(&LogSample) -> f64| {
                let pairs = engine.iter().zip(&raw);
                median(pairs.map(|(engine, raw)| value(engine) / value(raw)).collect())
            };
            Cell {
                partitions: of.0,
                producers: of.1,
                throughput_ratio: ratio(|sample| sample.records_per_second),
                p99_ratio: ratio(|sample| sample.p99_ms),
                engine: Summary::new(&engine),
                raw: Summary::new(&raw),
            }
        });
        Self { rounds, cells: cells.collect(), process }
    }
}

impl Summary {
    fn new(samples: &[&LogSample]) -> Self {
        let middle = |value: fn(&LogSample) -> f64| {
            median(samples.iter().map(|sample| value(sample)).collect())
        };
        let written: Vec<_> = samples.iter().filter_map(|sample| sample.written_per_byte).collect();
        Self {
            records_per_second: middle(|sample| sample.records_per_second),
            p50_ms: middle(|sample| sample.p50_ms),
            p99_ms: middle(|sample| sample.p99_ms),
            written_per_byte: (!written.is_empty()).then(|| median(written)),
        }
    }
}

impl Figures for LogFigures {
    fn table(&self) -> String {
        let mut table = Table::new(&[
            "partitions",
            "producers",
            "k records/s",
            "raw",
            "ratio",
            "p50 ms",
            "p99 ms",
            "raw p99",
            "ratio",
            "written a byte",
            "raw",
        ]);
        for cell in &self.cells {
            let Cell { engine, raw, .. } = cell;
            table.row(vec![
                cell.partitions.to_string(),
                cell.producers.to_string(),
                format!("{:.1}", engine.records_per_second / 1e3),
                format!("{:.1}", raw.records_per_second / 1e3),
                format!("{:.2}", cell.throughput_ratio),
                format!("{:.3}", engine.p50_ms),
                format!("{:.3}", engine.p99_ms),
                format!("{:.3}", raw.p99_ms),
                format!("{:.2}", cell.p99_ratio),
                written(engine.written_per_byte),
                written(raw.written_per_byte),
            ]);
        }
        let process = self.process.as_ref().map_or_else(String::new, ProcessFigures::text);
        format!("{}\nMedians of {} rounds.\n{process}", table.text(), self.rounds)
    }
}
