//! Producers that have one record under way each: the next one follows when the last one is durable.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use anyhow::Result;

/// Records that are taken in between two looks at the disk, as many as messages by the broker's own task.
const TURN_LEN: u32 = 256;

/// How many producers do what for how long.
#[derive(Debug, Clone, Copy)]
pub struct Load {
    /// Records under way.
    pub producers: u32,
    /// Partitions that they are spread over.
    pub partitions: u32,
    /// How long.
    pub duration: Duration,
}

/// Something that makes records durable, one commit at a time.
pub trait Commits {
    /// Takes a record in; returns the number of the commit that it will be part of.
    fn append(&mut self, partition: u32) -> Result<u64>;
    /// Begins the next commit if none is under way and something waits for it.
    fn begin(&mut self) -> Result<()>;
    /// Waits for the commit that is under way, and returns its number.
    fn wait(&mut self) -> Result<u64>;
    /// Takes in the commit that was waited for, and does what is to be done beside commits.
    fn keep_house(&mut self) -> Result<()>;
}

/// What came of it.
#[derive(Debug)]
pub struct Driven {
    /// How long it took in fact.
    pub elapsed: Duration,
    /// From append to durable, sorted.
    pub latencies: Vec<Duration>,
}

impl Driven {
    /// The latency that this share of the records stays below, in milliseconds.
    pub fn percentile_ms(&self, share: f64) -> f64 {
        let rank = (self.latencies.len() as f64 * share) as usize;
        let latency = self.latencies.get(rank).or(self.latencies.last());
        latency.map_or(0.0, |latency| latency.as_secs_f64() * 1e3)
    }
}

/// Runs `load` on `store`.
pub fn drive(store: &mut impl Commits, load: Load) -> Result<Driven> {
    let mut random = Random(u64::from(load.producers));
    let mut under_way = VecDeque::new();
    let mut latencies = Vec::new();
    let mut ready = load.producers;
    let begun = Instant::now();
    loop {
        let now = Instant::now();
        if now - begun < load.duration {
            for n in 1..=ready {
                under_way.push_back((store.append(random.below(load.partitions))?, now));
                if n % TURN_LEN == 0 {
                    store.begin()?;
                }
            }
            ready = 0;
        }
        if under_way.is_empty() {
            break;
        }
        store.begin()?;
        let durable = store.wait()?;
        // The disk first: what queued meanwhile is written while the answers are counted.
        store.begin()?;
        store.keep_house()?;
        let now = Instant::now();
        while under_way.front().is_some_and(|(commit, _)| *commit <= durable) {
            if let Some((_, since)) = under_way.pop_front() {
                latencies.push(now - since);
                ready += 1;
            }
        }
    }
    let elapsed = begun.elapsed();
    latencies.sort_unstable();
    Ok(Driven { elapsed, latencies })
}

/// Which partition a record goes to: the same in every run (Numerical Recipes' `ranqd1`, widened by Knuth).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let high = ((self.0 >> 32) * u64::from(bound)) >> 32;
        u32::try_from(high).unwrap_or(0)
    }
}
