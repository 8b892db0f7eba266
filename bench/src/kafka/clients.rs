//! The clients: librdkafka, through `clients/kafka_load.c`, and Kafka's own tools.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use serde::Serialize;

use super::peers::{Peer, Programs, address, java};
use crate::process::output;

/// Whose client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Client {
    /// `org.apache.kafka.tools.ProducerPerformance`. It takes most of two processors for itself.
    Java,
    /// librdkafka, which leaves more of them to the broker.
    Librdkafka,
}

/// What a client saw.
#[derive(Debug, Clone, Copy)]
pub struct Seen {
    /// Records a second.
    pub records_per_second: f64,
    /// Half of them took so long at most, in milliseconds.
    pub p50_ms: f64,
    /// All but one in a hundred.
    pub p99_ms: f64,
    /// All but one in a thousand.
    pub p999_ms: f64,
}

/// Makes a topic.
pub fn create(programs: &Programs, peer: Peer, topic: &str, partitions: u32) -> Result<()> {
    let mut command = load(&programs.load, "create", peer, topic);
    command.arg(partitions.to_string()).arg("-").args(peer.topic_configs());
    output(command).map(drop)
}

/// Deletes a topic.
pub fn delete(programs: &Programs, peer: Peer, topic: &str) -> Result<()> {
    let mut command = load(&programs.load, "delete", peer, topic);
    command.args(["-", "-"]);
    output(command).map(drop)
}

/// Produces `records` of `size` bytes as fast as it goes, with `acks=all` and a linger of 5 ms.
pub fn produce(
    programs: &Programs,
    client: Client,
    peer: Peer,
    topic: &str,
    (records, size): (u64, u32),
) -> Result<Seen> {
    let (records, size) = (records.to_string(), size.to_string());
    match client {
        Client::Java => {
            let tool = "org.apache.kafka.tools.ProducerPerformance";
            let mut command = java(&programs.classes, &[], tool);
            command
                .args(["--topic", topic, "--num-records", &records, "--record-size", &size])
                .args(["--throughput", "-1", "--producer-props"])
                .arg(format!("bootstrap.servers={}", address(peer)))
                .args(["acks=all", "linger.ms=5"]);
            seen_by_java(&output(command)?)
        }
        Client::Librdkafka => {
            let mut command = load(&programs.load, "produce", peer, topic);
            command.args([records, size]);
            seen_by_librdkafka(&output(command)?)
        }
    }
}

/// Consumes `records` from the beginning of all partitions, through librdkafka.
pub fn consume(
    programs: &Programs,
    peer: Peer,
    topic: &str,
    records: u64,
    partitions: u32,
) -> Result<Seen> {
    let mut command = load(&programs.load, "consume", peer, topic);
    command.args([records.to_string(), partitions.to_string()]);
    seen_by_librdkafka(&output(command)?)
}

/// Produces a record, waits until a consumer has it, and so on.
pub fn roundtrip(
    programs: &Programs,
    client: Client,
    peer: Peer,
    topic: &str,
    (records, size): (u64, u32),
) -> Result<Seen> {
    let (records, size) = (records.to_string(), size.to_string());
    match client {
        Client::Java => {
            let mut command =
                java(&programs.classes, &[], "org.apache.kafka.tools.EndToEndLatency");
            command.arg(address(peer).to_string()).args([topic, &records, "all", &size]);
            roundtrip_by_java(&output(command)?)
        }
        Client::Librdkafka => {
            let mut command = load(&programs.load, "roundtrip", peer, topic);
            command.args([records, size]);
            seen_by_librdkafka(&output(command)?)
        }
    }
}

fn load(program: &Path, what: &str, peer: Peer, topic: &str) -> Command {
    let mut command = Command::new(program);
    command.args([what, &address(peer).to_string(), topic]);
    command
}

fn seen_by_librdkafka(text: &str) -> Result<Seen> {
    let numbers: Result<Vec<f64>, _> = text.split_whitespace().map(str::parse).collect();
    let numbers = numbers.with_context(|| format!("kafka_load said {text:?}"))?;
    let [records, seconds, p50_ms, p99_ms, p999_ms] = numbers[..] else {
        anyhow::bail!("kafka_load said {text:?}");
    };
    Ok(Seen { records_per_second: records / seconds, p50_ms, p99_ms, p999_ms })
}

/// The last line is like `400000 records sent, 62656.6 records/sec (61.19 MB/sec), 426.44 ms avg latency, 852.00 ms max
/// latency, 408 ms 50th, 740 ms 95th, 824 ms 99th, 849 ms 99.9th.`
fn seen_by_java(text: &str) -> Result<Seen> {
    let line = text
        .lines()
        .rev()
        .find(|line| line.contains("99.9th"))
        .with_context(|| format!("ProducerPerformance said {text:?}"))?;
    let before = |what: &str| -> Result<f64> {
        let (value, _) = line.split_once(what).with_context(|| line.to_owned())?;
        Ok(value.rsplit(' ').next().unwrap_or_default().parse()?)
    };
    Ok(Seen {
        records_per_second: before(" records/sec")?,
        p50_ms: before(" ms 50th")?,
        p99_ms: before(" ms 99th")?,
        p999_ms: before(" ms 99.9th")?,
    })
}

/// The last line is like `Percentiles: 50th = 0, 99th = 7, 99.9th = 16`, in whole milliseconds.
fn roundtrip_by_java(text: &str) -> Result<Seen> {
    let average = "Avg latency: ";
    let line = |start: &str| text.lines().find_map(|line| line.strip_prefix(start));
    let percentiles = line("Percentiles: ").zip(line(average));
    let (percentiles, average) =
        percentiles.with_context(|| format!("EndToEndLatency said {text:?}"))?;
    let average_ms: f64 = average.trim_end_matches(" ms").trim().parse()?;
    let mut values = percentiles.split(", ").filter_map(|part| part.split_once(" = "));
    let mut next = || -> Result<f64> {
        let (_, value) = values.next().with_context(|| percentiles.to_owned())?;
        Ok(value.trim().parse()?)
    };
    Ok(Seen {
        records_per_second: 1000.0 / average_ms,
        p50_ms: next()?,
        p99_ms: next()?,
        p999_ms: next()?,
    })
}
