//! The broker's process: how soon it serves, and how much memory it takes.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use serde::Serialize;

use crate::broker;
use crate::client::Client;
use crate::disk::drop_page_cache;
use crate::process::{Server, fresh};
use crate::records::{RECORD_BYTES, batch};
use crate::usage::resident_bytes;

const TOPIC: &str = "filled";
const PARTITIONS: u32 = 10_000;

/// Records of one partition in a row while the log is filled: a backlog of small batches, not one partition's stream.
const RECORDS_A_RUN: usize = 16;

/// Partitions of one request while the log is filled.
const PARTITIONS_A_REQUEST: u32 = 64;

/// Requests under way while the log is filled.
const FILLERS: u32 = 4;

/// Long enough for what starting left behind to be given back.
const IDLE: Duration = Duration::from_secs(3);

const SLOW_CONSUMERS: u32 = 100;

/// What each of them asks for at a time, and how much of it it reads at a time.
const SLOW_FETCH_BYTES: u32 = 8 << 20;
const SLOW_READ_BYTES: usize = 16 << 10;
const SLOW_READ_INTERVAL: Duration = Duration::from_millis(20);

/// How long they read.
const SLOW_TIME: Duration = Duration::from_secs(10);

/// What was measured of the process.
#[derive(Debug, Serialize)]
pub struct ProcessFigures {
    partitions: u32,
    /// Memory with the partitions and nothing in them.
    idle_bytes: u64,
    /// What was appended, as values of records.
    appended_bytes: u64,
    /// From the start of the process to the first answer, after an orderly end.
    start_seconds: f64,
    /// The same after a `kill -9` under load.
    start_after_kill_seconds: f64,
    /// Whether the page cache was empty for both.
    is_cold: bool,
    /// Memory after such a start.
    started_bytes: u64,
    /// The most memory while consumers read from the beginning, slowly.
    slow_consumers: u32,
    slow_consumers_bytes: u64,
}

impl ProcessFigures {
    /// The figures in words.
    pub fn text(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let cache = if self.is_cold { "cold page cache" } else { "warm page cache" };
        format!(
            "\n{} idle partitions: {:.0} MiB resident.\n\
             {:.1} GiB in them, {cache}: answers {:.2} s after its start, {:.2} s after kill -9; {:.0} MiB resident.\n\
             {} slow consumers of cold data: at most {:.0} MiB resident.\n",
            self.partitions,
            mib(self.idle_bytes),
            mib(self.appended_bytes) / 1024.0,
            self.start_seconds,
            self.start_after_kill_seconds,
            mib(self.started_bytes),
            self.slow_consumers,
            mib(self.slow_consumers_bytes)
        )
    }
}

/// Measures `program` with about `bytes` in its log.
pub fn measure(program: &Path, folder: &Path, bytes: u64) -> Result<ProcessFigures> {
    let data = fresh(folder, "culvert")?;
    let mut server = broker::start(program, folder, &data)?;
    server.wait_for_listener(broker::kafka_address())?;
    Client::connect()?.create_topic(TOPIC, PARTITIONS)?;
    sleep(IDLE);
    let idle_bytes = resident_bytes(server.pid())?;
    eprintln!("idle with {PARTITIONS} partitions: {idle_bytes} bytes resident");

    let appended_bytes = fill(bytes)?;
    eprintln!("{appended_bytes} bytes appended");
    server.end()?;
    let is_cold = drop_page_cache();
    let (server, start_seconds) = timed_start(program, folder, &data)?;
    eprintln!("answers after {start_seconds:.3} s");
    fill(bytes / 100)?;
    // Dropped, it is killed.
    drop(server);
    let is_cold = drop_page_cache() && is_cold;
    let (server, start_after_kill_seconds) = timed_start(program, folder, &data)?;
    eprintln!("answers after {start_after_kill_seconds:.3} s");
    let started_bytes = resident_bytes(server.pid())?;
    let slow_consumers_bytes = read_slowly(&server)?;
    server.end()?;
    std::fs::remove_dir_all(&data)?;
    Ok(ProcessFigures {
        partitions: PARTITIONS,
        idle_bytes,
        appended_bytes,
        start_seconds,
        start_after_kill_seconds,
        is_cold,
        started_bytes,
        slow_consumers: SLOW_CONSUMERS,
        slow_consumers_bytes,
    })
}

/// The process, and the time until it has answered a fetch.
fn timed_start(program: &Path, folder: &Path, data: &Path) -> Result<(Server, f64)> {
    let begun = Instant::now();
    let mut server = broker::start(program, folder, data)?;
    server.wait("answers", || {
        let answered = Client::connect().and_then(|mut client| client.begin_fetch(TOPIC, 0, 1));
        Ok(answered.is_ok())
    })?;
    Ok((server, begun.elapsed().as_secs_f64()))
}

/// Appends about `bytes`, spread over all partitions, and returns how many it were.
fn fill(bytes: u64) -> Result<u64> {
    let batch = batch(RECORDS_A_RUN)?;
    let run_bytes = (RECORDS_A_RUN * RECORD_BYTES) as u64;
    let rounds = u64::max(1, bytes / run_bytes / u64::from(PARTITIONS));
    let requests: Vec<_> = (0..PARTITIONS).step_by(PARTITIONS_A_REQUEST as usize).collect();
    thread::scope(|scope| {
        let fillers: Vec<_> = (0..FILLERS)
            .map(|filler| {
                let (batch, requests) = (&batch, &requests);
                scope.spawn(move || -> Result<()> {
                    let mut client = Client::connect()?;
                    for _ in 0..rounds {
                        let own = requests.iter().skip(filler as usize).step_by(FILLERS as usize);
                        for &first in own {
                            let last = PARTITIONS.min(first + PARTITIONS_A_REQUEST);
                            client.produce(TOPIC, first..last, batch)?;
                        }
                    }
                    Ok(())
                })
            })
            .collect();
        fillers
            .into_iter()
            .try_for_each(|filler| filler.join().map_err(|_| anyhow!("a filler has panicked"))?)
    })?;
    Ok(rounds * run_bytes * u64::from(PARTITIONS))
}

/// The most memory that the process takes while consumers ask for much and read little.
fn read_slowly(server: &Server) -> Result<u64> {
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        let consumers: Vec<_> = (0..SLOW_CONSUMERS)
            .map(|consumer| {
                let stop = &stop;
                scope.spawn(move || consume_slowly(consumer * (PARTITIONS / SLOW_CONSUMERS), stop))
            })
            .collect();
        let begun = Instant::now();
        let mut most = Ok(0);
        while begun.elapsed() < SLOW_TIME
            && let Ok(so_far) = most
        {
            most = resident_bytes(server.pid()).map(|bytes| bytes.max(so_far));
            sleep(SLOW_READ_INTERVAL);
        }
        stop.store(true, Ordering::Relaxed);
        for consumer in consumers {
            consumer.join().map_err(|_| anyhow!("a consumer has panicked"))??;
        }
        most
    })
}

fn consume_slowly(partition: u32, stop: &AtomicBool) -> Result<()> {
    let mut client = Client::connect()?;
    while !stop.load(Ordering::Relaxed) {
        let mut left = client.begin_fetch(TOPIC, partition, SLOW_FETCH_BYTES)?;
        while left > 0 && !stop.load(Ordering::Relaxed) {
            let part = left.min(SLOW_READ_BYTES);
            client.skip(part)?;
            left -= part;
            sleep(SLOW_READ_INTERVAL);
        }
    }
    Ok(())
}
