//! `bench kafka`: our broker beside Apache Kafka, under the same clients, in turns.

mod clients;
mod figures;
mod peers;

use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result};

use clients::{Client, Seen};
use figures::{KafkaFigures, Sample, Work};
use peers::{Brokers, Peer, Programs};

use crate::usage::{processor_time, resident_bytes};

/// Between two rounds: deleted topics give their space back, and dirty pages go to the disk.
const PAUSE: Duration = Duration::from_secs(3);

/// A round that is not counted lets Java compile what runs often, and files be made; this part of its records is enough.
const WARM_UP_SHARE: f64 = 0.5;

/// What `flush.messages=1` is given to do, as a part of what the others are: it is several times slower.
const FLUSH_SHARE: f64 = 0.25;

/// Records of one load: enough for a few seconds.
const SMALL_RECORDS: f64 = 4e6;
const LARGE_RECORDS: f64 = 600e3;

/// The Java client's part of them.
const JAVA_SHARE: f64 = 0.4;

/// Records that go round one by one.
const ROUNDTRIPS: f64 = 5_000.0;

/// Bytes of a record that goes round.
const ROUNDTRIP_BYTES: u32 = 100;

const SMALL: u32 = 100;
const LARGE: u32 = 1024;

/// What to do.
#[derive(Debug, clap::Args)]
pub struct Plan {
    #[command(flatten)]
    programs: Programs,
    /// How often everything is measured; the medians are reported.
    #[arg(long, default_value_t = 3)]
    rounds: u32,
    /// More or fewer records: 1 is a few seconds for each load.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// Leave the Java clients out.
    #[arg(long)]
    no_java: bool,
}

/// Starts the brokers, lets the clients at them, and ends them.
pub fn run(plan: &Plan, folder: &Path) -> Result<KafkaFigures> {
    let brokers = Brokers::start(&plan.programs, folder)?;
    let mut bench = Bench { plan, brokers: &brokers, topics: Vec::new(), samples: Vec::new() };
    bench.round(0, plan.scale * WARM_UP_SHARE)?;
    bench.samples.clear();
    for number in 1..=plan.rounds {
        bench.round(number, plan.scale)?;
    }
    let samples = bench.samples;
    let resident = |peer: Peer| resident_bytes(brokers.pid(peer));
    let figures =
        KafkaFigures::new(&samples, resident(Peer::Culvert)?, resident(Peer::Kafka)?, plan.rounds);
    brokers.end()?;
    Ok(figures)
}

struct Bench<'a> {
    plan: &'a Plan,
    brokers: &'a Brokers,
    /// What this round has made.
    topics: Vec<(Peer, String)>,
    samples: Vec<Sample>,
}

impl Bench<'_> {
    fn round(&mut self, number: u32, scale: f64) -> Result<()> {
        let clients: &[Client] = if self.plan.no_java {
            &[Client::Librdkafka]
        } else {
            &[Client::Librdkafka, Client::Java]
        };
        for &client in clients {
            for (partitions, size) in [(1, SMALL), (12, SMALL), (1, LARGE), (12, LARGE)] {
                for peer in Peer::ALL {
                    let topic = format!("{client:?}-{partitions}-{size}-{peer:?}-{number}");
                    self.throughput(client, peer, topic, (partitions, size), scale)?;
                }
            }
            for peer in Peer::ALL {
                let topic = format!("{client:?}-roundtrip-{peer:?}-{number}");
                self.latency(client, peer, topic, scale)?;
            }
            self.clean()?;
        }
        Ok(())
    }

    fn throughput(
        &mut self,
        client: Client,
        peer: Peer,
        topic: String,
        (partitions, size): (u32, u32),
        scale: f64,
    ) -> Result<()> {
        let programs = &self.plan.programs;
        let all = if size == SMALL { SMALL_RECORDS } else { LARGE_RECORDS };
        let share = if client == Client::Java { JAVA_SHARE } else { 1.0 };
        let share = if peer == Peer::KafkaFlush { share * FLUSH_SHARE } else { share };
        let records = whole(all * share * scale);
        clients::create(programs, peer, &topic, partitions)?;
        self.topics.push((peer, topic.clone()));
        self.measure(Work::Produce, client, peer, (partitions, size), records, || {
            clients::produce(programs, client, peer, &topic, (records, size))
        })?;
        // How it was produced makes no difference to a consumer.
        if client == Client::Librdkafka && peer != Peer::KafkaFlush {
            self.measure(Work::Consume, client, peer, (partitions, size), records, || {
                clients::consume(programs, peer, &topic, records, partitions)
            })?;
        }
        Ok(())
    }

    fn latency(&mut self, client: Client, peer: Peer, topic: String, scale: f64) -> Result<()> {
        let programs = &self.plan.programs;
        let records = whole(ROUNDTRIPS * scale);
        clients::create(programs, peer, &topic, 1)?;
        self.topics.push((peer, topic.clone()));
        self.measure(Work::Roundtrip, client, peer, (1, ROUNDTRIP_BYTES), records, || {
            clients::roundtrip(programs, client, peer, &topic, (records, ROUNDTRIP_BYTES))
        })
    }

    fn measure(
        &mut self,
        work: Work,
        client: Client,
        peer: Peer,
        (partitions, size): (u32, u32),
        records: u64,
        load: impl FnOnce() -> Result<Seen>,
    ) -> Result<()> {
        let pid = self.brokers.pid(peer);
        let before = processor_time(pid)?;
        let seen = load().with_context(|| self.brokers.evidence(peer))?;
        let used = processor_time(pid)?.saturating_sub(before);
        let cpu_us_per_record = used.as_secs_f64() * 1e6 / records as f64;
        let sample = Sample { work, client, peer, partitions, size, seen, cpu_us_per_record };
        eprintln!("{sample}");
        self.samples.push(sample);
        Ok(())
    }

    fn clean(&mut self) -> Result<()> {
        for (peer, topic) in self.topics.drain(..) {
            clients::delete(&self.plan.programs, peer, &topic)?;
        }
        sleep(PAUSE);
        Ok(())
    }
}

fn whole(records: f64) -> u64 {
    (records as u64).max(1)
}
