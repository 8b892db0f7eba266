//! What was measured, and what it comes to.

use std::fmt;

use serde::Serialize;

use super::clients::{Client, Seen};
use super::peers::Peer;
use crate::Figures;
use crate::table::{Table, median};

/// What a client did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Work {
    /// Produced as fast as it went.
    Produce,
    /// Consumed what was produced.
    Consume,
    /// Produced a record, waited for it at a consumer, and so on.
    Roundtrip,
}

/// One load on one peer.
#[derive(Debug, Clone)]
pub struct Sample {
    pub work: Work,
    pub client: Client,
    pub peer: Peer,
    pub partitions: u32,
    pub size: u32,
    pub seen: Seen,
    pub cpu_us_per_record: f64,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { work, client, peer, partitions, size, seen, cpu_us_per_record } = self;
        write!(
            f,
            "{work:?} {client:?} {size} B x {partitions}, {}: {:.0} records/s, {cpu_us_per_record:.3} us of broker CPU \
             a record, p50 {} ms, p99 {} ms",
            peer.name(),
            seen.records_per_second,
            seen.p50_ms,
            seen.p99_ms
        )
    }
}

/// Everything, as medians over the rounds.
#[derive(Debug, Serialize)]
pub struct KafkaFigures {
    rounds: u32,
    resident_bytes: Resident,
    cells: Vec<Cell>,
}

#[derive(Debug, Serialize)]
struct Resident {
    culvert: u64,
    kafka: u64,
}

/// One load, all peers.
#[derive(Debug, Serialize)]
struct Cell {
    work: Work,
    client: Client,
    partitions: u32,
    size: u32,
    peers: Vec<PeerFigures>,
    /// Ours divided by theirs; medians of the rounds' ratios, because peers that were measured right after each other
    /// met the same machine.
    ratios: Vec<Ratios>,
}

#[derive(Debug, Serialize)]
struct PeerFigures {
    peer: Peer,
    records_per_second: f64,
    cpu_us_per_record: f64,
    p50_ms: f64,
    p99_ms: f64,
    p999_ms: f64,
}

#[derive(Debug, Serialize)]
struct Ratios {
    to: Peer,
    records_per_second: f64,
    cpu_per_record: f64,
    p99: f64,
}

impl KafkaFigures {
    /// Draws the medians.
    pub fn new(samples: &[Sample], culvert: u64, kafka: u64, rounds: u32) -> Self {
        let mut keys: Vec<_> = samples.iter().map(key).collect();
        keys.sort_unstable();
        keys.dedup();
        let cells = keys.into_iter().map(|of| {
            let samples: Vec<_> = samples.iter().filter(|sample| key(sample) == of).collect();
            let (work, client, size, partitions) = of;
            let peers = Peer::ALL.into_iter().filter_map(|peer| peer_figures(&samples, peer));
            let others = [Peer::Kafka, Peer::KafkaFlush].into_iter();
            let ratios = others.filter_map(|other| ratios(&samples, other));
            Cell {
                work,
                client,
                partitions,
                size,
                peers: peers.collect(),
                ratios: ratios.collect(),
            }
        });
        Self { rounds, resident_bytes: Resident { culvert, kafka }, cells: cells.collect() }
    }
}

fn key(sample: &Sample) -> (Work, Client, u32, u32) {
    (sample.work, sample.client, sample.size, sample.partitions)
}

fn of_peer<'a>(samples: &'a [&Sample], peer: Peer) -> impl Iterator<Item = &'a Sample> {
    samples.iter().copied().filter(move |sample| sample.peer == peer)
}

fn peer_figures(samples: &[&Sample], peer: Peer) -> Option<PeerFigures> {
    of_peer(samples, peer).next()?;
    let middle = |value: fn(&Sample) -> f64| median(of_peer(samples, peer).map(value).collect());
    Some(PeerFigures {
        peer,
        records_per_second: middle(|sample| sample.seen.records_per_second),
        cpu_us_per_record: middle(|sample| sample.cpu_us_per_record),
        p50_ms: middle(|sample| sample.seen.p50_ms),
        p99_ms: middle(|sample| sample.seen.p99_ms),
        p999_ms: middle(|sample| sample.seen.p999_ms),
    })
}

fn ratios(samples: &[&Sample], other: Peer) -> Option<Ratios> {
    of_peer(samples, other).next()?;
    let pairs = || of_peer(samples, Peer::Culvert).zip(of_peer(samples, other));
    let middle = |value: fn(&Sample) -> f64| {
        // What is too short to be measured is no ratio.
        let ratios = pairs().map(|(ours, theirs)| value(ours) / value(theirs));
        median(ratios.filter(|ratio| ratio.is_finite()).collect())
    };
    Some(Ratios {
        to: other,
        records_per_second: middle(|sample| sample.seen.records_per_second),
        cpu_per_record: middle(|sample| sample.cpu_us_per_record),
        p99: middle(|sample| sample.seen.p99_ms),
    })
}

impl Figures for KafkaFigures {
    fn table(&self) -> String {
        let mut table = Table::new(&[
            "work",
            "client",
            "bytes",
            "partitions",
            "peer",
            "k records/s",
            "CPU us/record",
            "p50 ms",
            "p99 ms",
            "p99.9 ms",
            "ours: throughput x",
            "CPU x",
            "p99 x",
        ]);
        for cell in &self.cells {
            for figures in &cell.peers {
                let ratios = cell.ratios.iter().find(|ratios| ratios.to == figures.peer);
                let ratio = |value: fn(&Ratios) -> f64| {
                    ratios.map_or_else(String::new, |ratios| format!("{:.2}", value(ratios)))
                };
                table.row(vec![
                    format!("{:?}", cell.work),
                    format!("{:?}", cell.client),
                    cell.size.to_string(),
                    cell.partitions.to_string(),
                    figures.peer.name().to_owned(),
                    format!("{:.1}", figures.records_per_second / 1e3),
                    format!("{:.3}", figures.cpu_us_per_record),
                    format!("{:.2}", figures.p50_ms),
                    format!("{:.2}", figures.p99_ms),
                    format!("{:.2}", figures.p999_ms),
                    ratio(|ratios| ratios.records_per_second),
                    ratio(|ratios| ratios.cpu_per_record),
                    ratio(|ratios| ratios.p99),
                ]);
            }
        }
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let Resident { culvert, kafka } = self.resident_bytes;
        format!(
            "{}\nMedians of {} rounds. Resident at the end: culvert {:.0} MiB, kafka {:.0} MiB.\n",
            table.text(),
            self.rounds,
            mib(culvert),
            mib(kafka)
        )
    }
}
