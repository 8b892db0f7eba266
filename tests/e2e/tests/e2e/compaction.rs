//! Of each key of a compacted topic the last record stays, whoever wrote it and whoever reads it.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{
    Launch, PATIENCE, Record, Settings, Site, Stage, Tool, kafka_tool, read_topic, run_tool,
    scenario, until,
};

const TOPIC: &str = "states";
const KEYS: usize = 10;
const ROUNDS: usize = 100;

/// A JVM on a busy machine takes its time to start.
const JVM_PATIENCE: Duration = Duration::from_secs(180);

/// Files have to be sealed and passes to be run by a busy machine.
const COMPACTION_PATIENCE: Duration = Duration::from_secs(180);

const GROUP_CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/group_client.py");
const ADMIN_CLIENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/admin_client.py");

/// A broker whose files are sealed within moments: only those are compacted.
fn broker(site: &Site<'_>) -> Result<Launch> {
    let launch = site.broker()?.flag("--wal-file-bytes", "1048576");
    let launch = launch.flag("--wal-file-age-ms-max", "1000").flag("--maintenance-ms", "300");
    Ok(launch.flag("--offsets-partitions", "1"))
}

fn python(arguments: &[&str]) -> Result<String> {
    let python = Settings::python().context("CULVERT_PYTHON names no Python")?;
    let output = run_tool(python, arguments, PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {complaint}");
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Produces lines of key and value to partition 0; `more` is for kcat.
fn produce(
    stage: &Stage,
    site: &Site<'_>,
    lines: &[(String, String)],
    more: &[&str],
) -> Result<()> {
    let file = stage.path("lines");
    let text = lines.iter().map(|(key, value)| format!("{key}:{value}\n"));
    std::fs::write(&file, text.collect::<String>())?;
    let (kafka, file) = (site.kafka().to_string(), file.to_string_lossy());
    let fixed = ["-P", "-b", &kafka, "-t", TOPIC, "-p", "0", "-K", ":", "-l", &file];
    let output = run_tool("kcat", &[&fixed[..], more].concat(), PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && complaint.is_empty(), "kcat: {complaint}");
    Ok(())
}

/// Values of every key in turn, round by round.
fn values(name: &str) -> Vec<(String, String)> {
    let line = |number: usize| {
        let (round, key) = (number / KEYS, number % KEYS);
        (format!("key-{key}"), format!("{name}-{round}-{}", "x".repeat(1_000)))
    };
    (0..KEYS * ROUNDS).map(line).collect()
}

/// The last value of each key that has one.
fn table(records: &[Record]) -> BTreeMap<String, String> {
    let mut table = BTreeMap::new();
    for record in records {
        if record.value.is_some() {
            table.insert(record.key_text(), record.value_text());
        } else {
            table.remove(&record.key_text());
        }
    }
    table
}

/// Waits until no more than `most` records are left.
fn wait_until_compacted(site: &Site<'_>, topic: &str, most: usize) -> Result<Vec<Record>> {
    let mut left = 0;
    let compacted = until("the topic to be compacted", COMPACTION_PATIENCE, || {
        let records = read_topic(site.kafka(), topic)?;
        left = records.len();
        Ok((left <= most).then_some(records))
    });
    compacted.with_context(|| format!("{left} records are left"))
}

/// What Kafka's own consumer finds: lines of key and value.
fn java_reads(site: &Site<'_>, count: usize) -> Result<Vec<String>> {
    let (kafka, count) = (site.kafka().to_string(), count.to_string());
    let fixed = kafka_tool("org.apache.kafka.tools.consumer.ConsoleConsumer")?;
    #[rustfmt::skip]
    let arguments = [
        "--bootstrap-server", &kafka, "--topic", TOPIC, "--from-beginning", "--timeout-ms", "60000",
        "--max-messages", &count, "--property", "print.key=true", "--property", "key.separator=:",
    ];
    let all: Vec<&str> = fixed.iter().map(String::as_str).chain(arguments).collect();
    let output = run_tool("java", &all, JVM_PATIENCE)?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "ConsoleConsumer: {complaint}");
    let printed = String::from_utf8_lossy(&output.stdout);
    Ok(printed.lines().map(str::to_owned).collect())
}

#[test]
fn the_last_value_of_each_key_stays_under_every_codec() {
    scenario(&[Tool::Kcat, Tool::ConfluentKafka, Tool::KafkaTools], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        let kafka = site.kafka().to_string();
        #[rustfmt::skip]
        let topic = [
            ADMIN_CLIENT, "create", &kafka, TOPIC, "1", "cleanup.policy=compact",
            "min.cleanable.dirty.ratio=0.01", "delete.retention.ms=1000",
        ];
        ensure!(python(&topic)? == "done");
        let mut expected = BTreeMap::new();
        let mut appended = 0;
        for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
            // The last record is the last of its key too, and shares a batch with others that are not: batches of every
            // codec are written anew.
            let mut lines = values(codec);
            lines.push((format!("last of {codec}"), codec.to_owned()));
            produce(stage, &site, &lines, &["-z", codec])?;
            appended += lines.len();
            expected.extend(lines);
        }
        let left = wait_until_compacted(&site, TOPIC, expected.len())?;
        ensure!(table(&left) == expected, "{:?}", table(&left).keys());
        ensure!(left.last().is_some_and(|record| record.offset == appended as u64 - 1));
        let ours =
            left.iter().map(|record| format!("{}:{}", record.key_text(), record.value_text()));
        ensure!(java_reads(&site, left.len())? == ours.collect::<Vec<_>>());

        // A tombstone takes its key with it, and goes too.
        produce(stage, &site, &[("key-3".to_owned(), String::new())], &["-Z"])?;
        produce(stage, &site, &[("key-4".to_owned(), "new".to_owned())], &[])?;
        expected.remove("key-3");
        expected.insert("key-4".to_owned(), "new".to_owned());
        let left = wait_until_compacted(&site, TOPIC, expected.len())?;
        ensure!(table(&left) == expected, "{:?}", table(&left).keys());
        ensure!(left.iter().all(|record| record.value.is_some()), "the tombstone went too");

        process.kill()?;
        process = broker(&site)?.start()?;
        // What no checkpoint had yet is compacted once more.
        let found = table(&read_topic(site.kafka(), TOPIC)?);
        ensure!(found == expected, "{:?}", found.keys());
        let lines = values("after the kill");
        produce(stage, &site, &lines, &["-z", "lz4"])?;
        expected.extend(lines);
        let left = wait_until_compacted(&site, TOPIC, expected.len())?;
        ensure!(table(&left) == expected, "{:?}", table(&left).keys());
        process.check_running()
    });
}

#[test]
fn the_records_of_a_group_are_compacted_and_its_offsets_stay() {
    const COMMITS: usize = 500;
    const FEW: usize = 10;
    scenario(&[Tool::Kcat, Tool::ConfluentKafka], |stage| {
        let site = Site::new(stage)?;
        let mut process = broker(&site)?.start()?;
        let kafka = site.kafka().to_string();
        ensure!(python(&[ADMIN_CLIENT, "create", &kafka, TOPIC, "1"])? == "done");
        let commit = |count: usize| {
            let count = count.to_string();
            python(&[GROUP_CLIENT, "commit", &kafka, "billing", TOPIC, &count])
        };
        let offsets = || python(&[GROUP_CLIENT, "offsets", &kafka, "billing"]);
        for round in 0..2 {
            let last = COMMITS + round;
            commit(last)?;
            let left = wait_until_compacted(&site, "__consumer_offsets", FEW)?;
            ensure!(left.last().is_some_and(|record| record.offset as usize + 1 >= last));
            ensure!(offsets()? == format!("0 {last}"));
            // The next life learns it from what is left.
            process.kill()?;
            process = broker(&site)?.start()?;
            ensure!(offsets()? == format!("0 {last}"));
        }
        process.check_running()
    });
}

/// In a file that would be written to for a day.
#[test]
fn records_that_are_too_old_are_compacted_however_few_they_are() {
    scenario(&[Tool::Kcat, Tool::ConfluentKafka], |stage| {
        let site = Site::new(stage)?;
        let mut process = site.broker()?.flag("--maintenance-ms", "300").start()?;
        let kafka = site.kafka().to_string();
        let topic = [ADMIN_CLIENT, "create", &kafka, TOPIC, "1"];
        let lag = ["cleanup.policy=compact", "max.compaction.lag.ms=2000"];
        ensure!(python(&[&topic[..], &lag].concat())? == "done");
        let mut lines = values("few");
        lines.truncate(3 * KEYS);
        produce(stage, &site, &lines, &[])?;
        let left = wait_until_compacted(&site, TOPIC, KEYS)?;
        ensure!(table(&left) == lines.into_iter().collect(), "{left:?}");
        process.check_running()
    });
}
